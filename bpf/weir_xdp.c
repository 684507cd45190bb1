/* Hook: XDP. */

#include "lib/headers.h"
#include "lib/types.h"
#include "lib/maps.h"
#include "lib/drop.h"
#include "lib/csum.h"
#include "lib/ctx_xdp.h"
#include "lib/parse.h"
#include "lib/next_hop.h"
#include "lib/nat.h"
#include "lib/select.h"
#include "lib/conntrack.h"
#include "lib/affinity.h"
#include "lib/count.h"
#include "lib/new_flow.h"
#include "lib/announce.h"
#include "lib/icmp.h"
#include "lib/answer.h"
#include "lib/fragments.h"
#include "lib/balance.h"
#include "lib/fragment_path.h"

SEC("xdp")
int weir_xdp(struct xdp_md *ctx)
{
	return weir(ctx);
}

SEC("xdp")
int weir_xdp_answer(struct xdp_md *ctx)
{
	return answer(ctx);
}

SEC("xdp")
int weir_xdp_new(struct xdp_md *ctx)
{
	return weir_new(ctx);
}

SEC("xdp")
int weir_xdp_fragment(struct xdp_md *ctx)
{
	return weir_fragment(ctx);
}

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
#include "lib/room.h"
#include "lib/new_flow.h"
#include "lib/announce.h"
#include "lib/icmp.h"
#include "lib/answer.h"
#include "lib/balance.h"

int weir_xdp(struct xdp_md *ctx)
{
	return weir(ctx);
}

int weir_xdp_answer(struct xdp_md *ctx)
{
	return answer(ctx);
}

int weir_xdp_room(struct xdp_md *ctx)
{
	return room(ctx);
}

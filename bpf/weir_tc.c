/* Hook: tcx ingress. */

#include "lib/headers.h"
#include "lib/types.h"
#include "lib/maps.h"
#include "lib/drop.h"
#include "lib/csum.h"
#include "lib/ctx_tc.h"
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

SEC("tc")
int weir_tc(struct __sk_buff *ctx)
{
	return weir(ctx);
}

SEC("tc")
int weir_tc_answer(struct __sk_buff *ctx)
{
	return answer(ctx);
}

SEC("tc")
int weir_tc_new(struct __sk_buff *ctx)
{
	return weir_new(ctx);
}

SEC("tc")
int weir_tc_fragment(struct __sk_buff *ctx)
{
	return weir_fragment(ctx);
}

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
#include "lib/room.h"
#include "lib/new_flow.h"
#include "lib/announce.h"
#include "lib/icmp.h"
#include "lib/answer.h"
#include "lib/balance.h"

int weir_tc(struct __sk_buff *ctx)
{
	return weir(ctx);
}

int weir_tc_answer(struct __sk_buff *ctx)
{
	return answer(ctx);
}

int weir_tc_room(struct __sk_buff *ctx)
{
	return room(ctx);
}

/* Hook: tcx egress, for what this machine itself sends; forwarded packets have no socket and go their way.
 *
 * What goes to a VIP turns round and comes in by the same interface, as if a client had sent it; so does the answer that the packet
 * path then sends back.  What a backend on this machine answers is rewritten as a reply, and goes on.
 */

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
#include "lib/count.h"
#include "lib/fragments.h"

#define PASS (-1)	/* TCX_NEXT */
#define FRAME 78	/* Ethernet, IPv6, a neighbour solicitation up to its target's end */

static __always_inline void *pulled(struct __sk_buff *ctx)
{
	__u32 want = ctx->len < FRAME ? ctx->len : FRAME;

	if ((void *)(long)ctx->data + want > (void *)(long)ctx->data_end)
		bpf_skb_pull_data(ctx, want);
	return (void *)(long)ctx->data;
}

/* Our own answer to what we sent: no frame on the wire goes from a MAC to itself.  Loopback has none. */
static __always_inline bool same_mac(const struct ethhdr *eth)
{
	const __u16 *to = (void *)eth->h_dest, *from = (void *)eth->h_source;

	return to[0] == from[0] && to[1] == from[1] && to[2] == from[2] && (to[0] || to[1] || to[2]);
}

static __always_inline void from_v4(struct addr *to, __be32 v4)
{
	*to = (struct addr){ .w = { 0, 0, bpf_htonl(0xffff), v4 } };
}

/* Whom an ARP request asks for (RFC 826).  A gratuitous one is an announcement, and meant for others. */
static __always_inline bool arp_target(void *arp, void *end, struct addr *target)
{
	if (arp + 28 > end || *(__be16 *)(arp + 6) != bpf_htons(1) || *(__be32 *)(arp + 14) == *(__be32 *)(arp + 24))
		return false;
	from_v4(target, *(__be32 *)(arp + 24));
	return true;
}

/* The destination, or whom a neighbour solicitation asks for (RFC 4861, section 4.3).  asks: it is one. */
static __always_inline bool v6_target(struct ipv6hdr *ip, void *end, struct addr *target, bool *asks)
{
	__u8 *icmp = (void *)(ip + 1);

	if ((void *)(ip + 1) > end)
		return false;
	__builtin_memcpy(target, &ip->daddr, sizeof(*target));
	if (ip->daddr.s6_addr[0] != 0xff)
		return true;
	*asks = ip->nexthdr == IPPROTO_ICMPV6 && (void *)(icmp + 24) <= end && icmp[0] == 135;
	if (*asks)
		__builtin_memcpy(target, icmp + 8, sizeof(*target));
	return *asks;
}

/* The answer of a backend that is this machine: the client expects the VIP. */
static __always_inline void answer_of_own(struct __sk_buff *ctx, bool v6)
{
	struct flow_key key = {};
	struct fragment *first = NULL;
	struct found found;
	struct rewrite to;
	struct packet p;
	__u32 id = 0;
	void *end;

	ctx_make_linear(ctx);
	end = ctx_end(ctx);
	if (ctx_data(ctx) + ETH_HLEN > end)
		return;
	p = packet_of(ctx, &key);
	if (!(v6 ? parse_v6(&p, end, ctx->len - ETH_HLEN) : parse_v4(&p, end, ctx->len - ETH_HLEN)))
		return;
	parse_fragment(&p, end);
	if (p.fault)
		return;
	if (p.later) {
		first = noted(&p);
		if (!first)
			return;
		key.sport = first->sport;
		key.dport = first->dport;
		id = first->id;
	}
	if (!find_flow(&key, hash_of(&key, v6), v6, &found) || !found.back || !takes_answers(found.flow, found.life, p.tick))
		return;
	if (!p.later && !p.l4_csum)
		return;
	touch_out(ctx, &p, found.flow, found.life);
	count_out(ctx, found.flow->frontend_id, found.flow->backend_id);
	to = way_back(found.flow);
	rewrite(ctx, &p, &to, false);
	if (p.more && !p.later) {
		id = new_id();
		note(&p, FRAGMENT_OF_FLOW, id);
	}
	if (p.more || p.later)
		write_id(ctx, &p, id);
	count_verdict(REPLIED);
}

SEC("tc")
int weir_egress(struct __sk_buff *ctx)
{
	struct ethhdr *eth;
	struct addr target;
	bool asks = false;
	struct vip *vip;
	void *end;

	eth = pulled(ctx);
	end = (void *)(long)ctx->data_end;
	if ((void *)(eth + 1) > end)
		return PASS;
	if (same_mac(eth))
		return bpf_redirect(ctx->ifindex, BPF_F_INGRESS);
	if (eth->h_proto == bpf_htons(ETH_P_ARP)) {
		asks = true;
		if (!arp_target(eth + 1, end, &target))
			return PASS;
	} else if (!ctx->sk) {
		return PASS;
	} else if (eth->h_proto == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = (void *)(eth + 1);

		if ((void *)(ip + 1) > end)
			return PASS;
		from_v4(&target, ip->daddr);
	} else if (eth->h_proto != bpf_htons(ETH_P_IPV6) || !v6_target((void *)(eth + 1), end, &target, &asks)) {
		return PASS;
	}
	vip = map_get(vips, &target);
	if (!vip || vip->flags & VIP_SHARED) {
		if (!asks)
			answer_of_own(ctx, eth->h_proto == bpf_htons(ETH_P_IPV6));
		return PASS;
	}
	if (!asks)
		__builtin_memcpy(eth->h_dest, eth->h_source, ETH_ALEN);
	return bpf_redirect(ctx->ifindex, BPF_F_INGRESS);
}

/* Claim the VIPs: ARP (RFC 826), neighbour solicitations (RFC 4861, section 7.2), and echo requests to them.
 *
 * The kernel never answers ARP or NDP for a VIP, so that only the node that announces it does.  Forwarding is not fenced.
 */

#define HELLO_GONE_NS 2000000000ull

struct hello_head {
	__u8 magic[8];
	__u64 group;
};

/* Note that another node says hello, whether or not there is a process to read it. */
static __always_inline void note_hello(const struct packet *p, void *end)
{
	struct hello_head *hello = p->ip;
	struct hello_seen *seen;
	__u32 zero = 0;

	if ((void *)(hello + 1) > end)
		return;
	seen = map_get(hello_seen, &zero);
	if (seen && seen->group == hello->group)
		seen->at_ns = bpf_ktime_get_ns();
}

/* Without a process that says hello for this node, those that are heard on the wire announce its VIPs; without any, it does. */
static __always_inline bool nobody_says_hello(__u64 now)
{
	__u32 zero = 0;
	struct hello_seen *seen = map_get(hello_seen, &zero);

	return !seen || !seen->at_ns || now - seen->at_ns > HELLO_GONE_NS;
}

/* Does this node announce the VIP?  The first in its order that is ready does; where none is, the first that is alive.
 * services/dataplane/announce/order.py is the same rule.
 */
static __always_inline bool announces(const struct vip *vip)
{
	__u64 now = bpf_ktime_get_ns();
	bool found = false, ours = false;
	__u32 at, slot;

	if (!vip->count)
		return true;
	for (at = 0; at < ANNOUNCERS && at < vip->count; at++) {
		struct lb_node *node;

		slot = vip->order[at];
		node = map_get(lb_nodes, &slot);
		if (!node)
			continue;
		if (now < node->ready_until_ns)
			return !slot;
		if (!found && now < node->alive_until_ns) {
			found = true;
			ours = !slot;
		}
	}
	return found ? ours : nobody_says_hello(now);
}

/* May and can we answer for the address?  NULL with PASSED: it is no VIP, or its own kernel answers. */
static __always_inline struct interface *answer_from(CTX *ctx, struct packet *p, const struct addr *target)
{
	struct vip *vip = map_get(vips, target);
	__u32 ifindex = ctx_ifindex(ctx);

	if (!vip || vip->flags & VIP_SHARED)
		return NULL;
	p->verdict = DROP_NOT_OWNER;
	if (!announces(vip))
		return NULL;
	p->verdict = DROP_NO_INTERFACE;
	return map_get(interfaces, &ifindex);
}

struct arp {
	__be16 hardware;
	__be16 protocol;
	__u8 sizes[2];
	__be16 operation;
	__u8 sender_mac[ETH_ALEN];
	__u8 sender[4];
	__u8 target_mac[ETH_ALEN];
	__u8 target[4];
};

static __always_inline int answer_arp(CTX *ctx, struct packet *p, void *end)
{
	struct ethhdr *eth = p->eth;
	struct arp *arp = p->ip;
	struct interface *interface;
	struct addr target;
	__be32 v4;

	if ((void *)(arp + 1) > end || arp->hardware != bpf_htons(1) || arp->protocol != bpf_htons(ETH_P_IP) ||
	    arp->operation != bpf_htons(1) || ctx_for_another(ctx))
		return CTX_PASS;
	if (*(__be32 *)arp->sender == *(__be32 *)arp->target)
		return CTX_PASS;	/* gratuitous: an announcement, no question */
	v4 = *(__be32 *)arp->target;
	map_v4(&target, v4);
	interface = answer_from(ctx, p, &target);
	if (!interface)
		return p->verdict ? CTX_DROP : CTX_PASS;
	__builtin_memcpy(eth->h_dest, eth->h_source, ETH_ALEN);
	__builtin_memcpy(eth->h_source, interface->mac, ETH_ALEN);
	arp->operation = bpf_htons(2);
	__builtin_memcpy(arp->target_mac, arp->sender_mac, ETH_ALEN);
	__builtin_memcpy(arp->target, arp->sender, 4);
	__builtin_memcpy(arp->sender_mac, interface->mac, ETH_ALEN);
	__builtin_memcpy(arp->sender, &v4, 4);
	p->verdict = ARP_ANSWERED;
	return ctx_reply(ctx);
}

enum { ND_SOLICITATION = 135, ND_ADVERTISEMENT = 136, ND_OPTION_TARGET = 2 };
enum { NA_OVERRIDE = 0x20, NA_SOLICITED = 0x40 };

struct advertisement {
	__u8 type;
	__u8 code;
	__sum16 checksum;
	__u8 flags;
	__u8 pad[3];
	struct addr target;
	__u8 option;
	__u8 option_len;	/* in 8 bytes */
	__u8 mac[ETH_ALEN];
};

/* What its checksum is over (RFC 8200, section 8.1). */
struct advertisement_sum {
	struct addr src;
	struct addr dst;
	__be32 len;
	__be32 next;
	struct advertisement body;
};

#define NA_LEN (ETH_HLEN + sizeof(struct ipv6hdr) + sizeof(struct advertisement))

static __always_inline void write_advertisement(struct ethhdr *eth, const struct advertisement_sum *na, const __u8 *to)
{
	struct ipv6hdr *ip = (void *)(eth + 1);

	__builtin_memcpy(eth->h_dest, to, ETH_ALEN);
	__builtin_memcpy(eth->h_source, na->body.mac, ETH_ALEN);
	*(__be32 *)ip = bpf_htonl(6 << 28);
	ip->payload_len = bpf_htons(sizeof(na->body));
	ip->nexthdr = IPPROTO_ICMPV6;
	ip->hop_limit = 255;
	__builtin_memcpy(&ip->saddr, &na->src, sizeof(na->src));
	__builtin_memcpy(&ip->daddr, &na->dst, sizeof(na->dst));
	__builtin_memcpy(ip + 1, &na->body, sizeof(na->body));
}

/* target: bounds were checked by the caller.  The answer is longer than a solicitation without option. */
static __always_inline int answer_solicitation(CTX *ctx, struct packet *p, const void *target)
{
	struct advertisement_sum na = { .len = bpf_htonl(sizeof(na.body)), .next = bpf_htonl(IPPROTO_ICMPV6) };
	struct interface *interface;
	struct ethhdr *eth = p->eth;
	__u8 to[ETH_ALEN];

	__builtin_memcpy(&na.src, target, sizeof(na.src));
	interface = answer_from(ctx, p, &na.src);
	if (!interface)
		return p->verdict ? CTX_DROP : CTX_PASS;
	na.body.type = ND_ADVERTISEMENT;
	na.body.target = na.src;
	na.body.option = ND_OPTION_TARGET;
	na.body.option_len = 1;
	__builtin_memcpy(na.body.mac, interface->mac, ETH_ALEN);
	if (p->key->src.d[0] || p->key->src.d[1]) {
		na.dst = p->key->src;
		na.body.flags = NA_OVERRIDE | NA_SOLICITED;
		__builtin_memcpy(to, eth->h_source, ETH_ALEN);
	} else {	/* someone is about to take this very address for itself (RFC 4862, section 5.4): tell all nodes */
		na.dst = (struct addr){ .w = { bpf_htonl(0xff020000), 0, 0, bpf_htonl(1) } };
		na.body.flags = NA_OVERRIDE;
		__builtin_memcpy(to, (__u8[]){ 0x33, 0x33, 0, 0, 0, 1 }, ETH_ALEN);
	}
	na.body.checksum = ~csum_fold16(bpf_csum_diff(NULL, 0, (void *)&na, sizeof(na), 0));
	p->verdict = DROP_REWRITE_FAILED;
	if (ctx_resize(ctx, NA_LEN))
		return CTX_DROP;
	eth = ctx_data(ctx);
	if ((void *)eth + NA_LEN > ctx_end(ctx))
		return CTX_DROP;
	write_advertisement(eth, &na, to);
	p->verdict = NDP_ANSWERED;
	return ctx_reply(ctx);
}

enum { ECHO_REPLY_V4 = 0, ECHO_REQUEST_V4 = 8, ECHO_REQUEST_V6 = 128, ECHO_REPLY_V6 = 129 };

static __always_inline bool is_echo_request(const struct packet *p)
{
	return p->icmp_type == (p->v6 ? ECHO_REQUEST_V6 : ECHO_REQUEST_V4);
}

/* Of an echo request, whole or in fragments: each turns round by itself. */
static __always_inline int turn_round(CTX *ctx, struct packet *p)
{
	struct ethhdr *eth = p->eth;
	__u8 mac[ETH_ALEN];

	__builtin_memcpy(mac, eth->h_dest, ETH_ALEN);
	__builtin_memcpy(eth->h_dest, eth->h_source, ETH_ALEN);
	__builtin_memcpy(eth->h_source, mac, ETH_ALEN);
	write_addrs(p, &p->key->dst, &p->key->src, 0);	/* the same addresses: no checksum changes */
	set_ttl(ctx, p, 64);
	p->verdict = ECHO_ANSWERED;
	return ctx_reply(ctx);
}

static __always_inline int answer_echo(CTX *ctx, struct packet *p)
{
	struct icmphdr *icmp = p->l4;

	icmp->type = p->v6 ? ECHO_REPLY_V6 : ECHO_REPLY_V4;
	csum_mend(&icmp->checksum, csum_word(p->icmp_type, icmp->type));
	return turn_round(ctx, p);
}

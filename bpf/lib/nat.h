/* Rewrite a packet and send it. */

static __always_inline struct packet packet_of(CTX *ctx, struct flow_key *key)
{
	__u64 jiffies = bpf_jiffies64();
	struct ethhdr *eth = ctx_data(ctx);

	return (struct packet){
		.key = key,
		.now = jiffies * config.tick_ns + config.epoch_ns,
		.tick = jiffies,
		.eth = eth,
		.ip = eth + 1,
		.summed = ctx_summed(ctx),
	};
}

static __always_inline __u16 ttl_word(void *ttl)
{
	return *(__u16 *)ttl;	/* TTL and protocol share a checksum word */
}

static __always_inline void set_ttl(CTX *ctx, struct packet *p, __u8 ttl)
{
	if (p->v6) {
		struct ipv6hdr *ip = p->ip;
		__u8 old = ip->hop_limit;

		ip->hop_limit = ttl;
		ctx_csum_changed(ctx, p->summed, csum_word((__u16)old << 8, (__u16)ttl << 8));
	} else {
		struct iphdr *ip = p->ip;
		__u16 old = ttl_word(&ip->ttl);

		ip->ttl = ttl;
		csum_mend(&ip->check, csum_word(old, ttl_word(&ip->ttl)));
	}
}

static __always_inline void write_addrs(struct packet *p, const struct addr *src, const struct addr *dst, __u32 difference)
{
	if (p->v6) {
		struct ipv6hdr *ip = p->ip;

		__builtin_memcpy(&ip->saddr, src, sizeof(*src));
		__builtin_memcpy(&ip->daddr, dst, sizeof(*dst));
	} else {
		struct iphdr *ip = p->ip;

		ip->saddr = src->w[3];
		ip->daddr = dst->w[3];
		csum_mend(&ip->check, difference);
	}
}

static __always_inline void write_macs(struct packet *p, const struct next_hop *hop)
{
	__u32 *macs = p->eth;

	macs[0] = hop->macs[0];
	macs[1] = hop->macs[1];
	macs[2] = hop->macs[2];
}

/* The device would drop it without a word. */
static __always_inline bool too_big(CTX *ctx, const struct packet *p, const struct next_hop *hop)
{
	__u32 length = p->l4 - p->ip, segment = ctx_segment(ctx);

	if (!hop->mtu)
		return false;
	length += segment ? segment + p->l4_header : p->l4_len;
	return length > hop->mtu;
}

/* What a packet leaves with. */
struct rewrite {
	const struct addr *src;
	const struct addr *dst;
	__be16 sport;
	__be16 dport;
	__u16 addrs;	/* what a checksum lacks then, for the addresses alone */
	__u16 l4;	/* and for addresses and ports */
	bool source;	/* the source is ours: the kernel's rules may route by it */
};

static __always_inline struct rewrite way_back(const struct flow *flow)
{
	return (struct rewrite){ &flow->dst, &flow->src, flow->dport, flow->sport, ~flow->addrs_delta, ~flow->l4_delta, true };
}

/* Drop it, and tell the sender: answer.h. */
static __always_inline int refuse(CTX *ctx, struct packet *p, enum verdict reason, __u32 mtu)
{
	struct scratch *scratch = scratch_of_cpu();

	if (scratch && p->key->proto != IPPROTO_ICMP && p->key->proto != IPPROTO_ICMPV6) {
		scratch->reason = reason;
		scratch->mtu = mtu;
		jump(ctx, PROGRAM_ANSWER);
	}
	return drop(p, reason);
}

static __always_inline bool may_fragment(const struct packet *p)
{
	return !p->v6 && !(((struct iphdr *)p->ip)->frag_off & bpf_htons(0x4000));
}

static __always_inline void rewrite_ip(struct packet *p, const struct rewrite *to, bool routed)
{
	if (p->v6) {
		struct ipv6hdr *ip = p->ip;

		__builtin_memcpy(&ip->saddr, to->src, sizeof(ip->saddr));
		__builtin_memcpy(&ip->daddr, to->dst, sizeof(ip->daddr));
		ip->hop_limit = p->ttl - routed;
	} else {
		struct iphdr *ip = p->ip;
		__u32 sum = (__u16)~ip->check + to->addrs;

		ip->saddr = to->src->w[3];
		ip->daddr = to->dst->w[3];
		if (routed) {
			ip->ttl = p->ttl - 1;
			sum += 0xfffe;	/* the TTL is the first byte of its word */
		}
		ip->check = ~csum_fold16(sum);
	}
}

/* Mends the L4 checksum, and what a NIC summed over the whole packet: in IPv6 the L4 checksum makes up for the addresses, in IPv4 that
 * of the header has.
 */
static __always_inline void mend_l4(CTX *ctx, struct packet *p, const struct rewrite *to, bool routed)
{
	bool udp = p->key->proto == IPPROTO_UDP;
	__u16 was = *p->l4_csum;

	if (udp && !was)
		return;	/* it has none */
	if (ctx_partly_summed(p->summed, was, csum_pseudo(p->key, p->l4_len, p->v6))) {
		*p->l4_csum = csum_fold16((__u32)was + to->addrs);
	} else {
		*p->l4_csum = ~csum_fold16((__u32)(__u16)~was + to->l4);
		if (udp && !*p->l4_csum)
			*p->l4_csum = 0xffff;
	}
	if (!p->v6)
		ctx_csum_changed(ctx, p->summed, csum_word(was, *p->l4_csum));
	else if (routed)
		ctx_csum_changed(ctx, p->summed, csum_word((__u16)p->ttl << 8, (__u16)(p->ttl - 1) << 8));
}

/* A later fragment has no L4 checksum to make up for its addresses. */
static __always_inline void sum_later(CTX *ctx, const struct packet *p, const struct rewrite *to, bool routed)
{
	if (p->v6)
		ctx_csum_changed(ctx, p->summed, to->addrs + (routed ? csum_word((__u16)p->ttl << 8, (__u16)(p->ttl - 1) << 8) : 0));
}

static __always_inline void rewrite(CTX *ctx, struct packet *p, const struct rewrite *to, bool routed)
{
	__be16 *l4 = p->l4;

	rewrite_ip(p, to, routed);
	if (p->later) {
		sum_later(ctx, p, to, routed);
		return;
	}
	l4[0] = to->sport;
	l4[1] = to->dport;
	if (p->l4_csum)
		mend_l4(ctx, p, to, routed);
}

static __always_inline int send(CTX *ctx, struct packet *p, const struct rewrite *to, enum verdict verdict)
{
	const struct addr none = {};
	struct next_hop *hop = next_hop(ctx, p, to->source ? to->src : &none, to->dst);
	bool kernel, stack;

	if (!hop)
		return CTX_DROP;
	if (!p->later && !p->l4_csum && (to->sport != p->key->sport || to->dport != p->key->dport))
		return drop(p, DROP_UNSUPPORTED);
	stack = hop->how >= SEND_STACK;
	if (!stack) {
		if (p->ttl <= 1)
			return refuse(ctx, p, DROP_TTL_EXCEEDED, 0);
		stack = too_big(ctx, p, hop);
		if (stack && !may_fragment(p))
			return refuse(ctx, p, DROP_TOO_BIG, hop->mtu);
	}
	kernel = hop->probe || stack || hop->how != SEND_MACS;
	if (!kernel)
		write_macs(p, hop);
	rewrite(ctx, p, to, !stack);	/* the stack would count the TTL down itself, and cuts what is too big */
	p->verdict = verdict;
	if (!kernel)
		return ctx_send(ctx, hop->ifindex);
	if (stack)
		return CTX_PASS;
	hop->probe = 0;
	return ctx_send_neighbour(ctx, hop);
}

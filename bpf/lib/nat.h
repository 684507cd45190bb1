/* Rewrite a packet and send it. */

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
		ctx_csum_changed(ctx, csum_word((__u16)old << 8, (__u16)ttl << 8));
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

/* The device would drop it without a word.  A segment's header is at least this long. */
static __always_inline bool too_big(CTX *ctx, const struct packet *p, const struct next_hop *hop)
{
	__u32 header = p->l4 - p->ip, segment = ctx_segment(ctx);

	return hop->mtu && (segment ? segment + header + sizeof(struct udphdr) : header + p->l4_len) > hop->mtu;
}

/* The ends a packet leaves with. */
struct ends {
	const struct addr *src;
	const struct addr *dst;
	__be16 sport;
	__be16 dport;
};

static __always_inline struct scratch *scratch_of_cpu(void)
{
	__u32 zero = 0;

	return map_get(scratch, &zero);
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

static __always_inline int send(CTX *ctx, struct packet *p, const struct ends *to, enum verdict verdict)
{
	const struct addr *src = to->src, *dst = to->dst;
	__be16 sport = to->sport, dport = to->dport;
	struct next_hop *hop = next_hop(ctx, p, src, dst);
	__u32 addrs, ports;
	__be16 *l4 = p->l4;
	__u32 ifindex;
	bool probe, stack;

	if (!hop)
		return CTX_DROP;
	addrs = csum_fold32(csum_addr(&p->key->src, src, p->v6) + csum_addr(&p->key->dst, dst, p->v6));
	ports = csum_word(p->key->sport, sport) + csum_word(p->key->dport, dport);
	if (sport == p->key->sport && dport == p->key->dport)
		ports = 0;
	if (!p->l4_csum && ports)
		return drop(p, DROP_UNSUPPORTED);
	stack = hop->how == SEND_STACK;
	if (!stack) {
		if (p->ttl <= 1)
			return refuse(ctx, p, DROP_TTL_EXCEEDED, 0);
		stack = too_big(ctx, p, hop);
		if (stack && !may_fragment(p))
			return refuse(ctx, p, DROP_TOO_BIG, hop->mtu);
	}
	if (!stack)	/* which would count it down itself, and cuts what is too big */
		set_ttl(ctx, p, p->ttl - 1);
	probe = hop->probe || stack || hop->how != SEND_MACS;
	if (!probe)
		write_macs(p, hop);
	write_addrs(p, src, dst, addrs);
	l4[0] = sport;
	l4[1] = dport;
	if (p->l4_csum && ctx_mend_l4(ctx, p->l4_csum_at, p->l4_csum, addrs, ports, csum_pseudo(p->key, p->l4_len, p->v6), p->v6,
				      p->key->proto == IPPROTO_UDP))
		return drop(p, DROP_REWRITE_FAILED);
	p->verdict = verdict;
	if (!probe)
		return ctx_send(ctx, hop->ifindex);
	if (stack)
		return CTX_PASS;
	hop->probe = 0;
	return ctx_send_neighbour(ctx, hop);
}

/* From bytes to a flow key.  All bounds are checked here, once.
 *
 * What is wrong with a packet is only noted: it concerns us if the packet turns out to be for a VIP, and is the
 * stack's business otherwise.
 */

enum { TCP_FIN = 1, TCP_SYN = 2, TCP_RST = 4, TCP_ACK = 16 };

/* Nothing here may have its address taken: then the compiler keeps it in registers, and `v6` a constant. */
struct packet {
	struct flow_key *key;
	__u64 now;
	__u32 tick;		/* jiffies */
	void *eth;
	void *ip;
	void *l4;
	__sum16 *l4_csum;	/* NULL for SCTP, whose CRC covers no addresses */
	__u32 l4_csum_at;	/* offset of the same */
	__u32 l4_len;		/* as the IP header claims */
	enum verdict fault;
	enum verdict verdict;
	__u8 ttl;
	__u8 tcp_flags;
	__u8 icmp_type;
	__u8 l4_header;		/* bytes, of a segment's every packet */
	__u8 summed;		/* how far a device has summed it, or is to: ctx_tc.h */
	bool v6;
	bool more;		/* fragments follow, or */
	bool later;		/* this is not the first: it has no L4 header */
	__u32 offset;		/* of a later one, in the datagram, in bytes */
	__be32 id;		/* of a fragment's datagram */
};

static __always_inline int drop(struct packet *p, enum verdict reason)
{
	p->verdict = reason;
	return CTX_DROP;
}

static __always_inline bool is_v4(const struct addr *addr)
{
	return !addr->d[0] && addr->w[2] == bpf_htonl(0xffff);
}

static __always_inline bool same_addr(const struct addr *a, const struct addr *b)
{
	return a->d[0] == b->d[0] && a->d[1] == b->d[1];
}

static __always_inline void map_v4(struct addr *addr, __be32 v4)
{
	addr->d[0] = 0;
	addr->w[2] = bpf_htonl(0xffff);
	addr->w[3] = v4;
}

static __always_inline enum verdict parse_tcp(struct packet *p, void *end, __u32 len)
{
	struct tcphdr *tcp = p->l4;

	if ((void *)(tcp + 1) > end || tcp->doff < 5 || tcp->doff * 4 > len)
		return DROP_MALFORMED;
	p->key->sport = tcp->source;
	p->key->dport = tcp->dest;
	p->tcp_flags = ((__u8 *)tcp)[13];
	p->l4_header = tcp->doff * 4;
	p->l4_csum = &tcp->check;
	p->l4_csum_at += offsetof(struct tcphdr, check);
	return PASSED;
}

static __always_inline enum verdict parse_udp(struct packet *p, void *end, __u32 len)
{
	struct udphdr *udp = p->l4;

	if ((void *)(udp + 1) > end || bpf_ntohs(udp->len) < sizeof(*udp) || (bpf_ntohs(udp->len) > len && !p->more))
		return DROP_MALFORMED;
	p->key->sport = udp->source;
	p->key->dport = udp->dest;
	p->l4_header = sizeof(*udp);
	p->l4_csum = &udp->check;
	p->l4_csum_at += offsetof(struct udphdr, check);
	return PASSED;
}

static __always_inline enum verdict parse_sctp(struct packet *p, void *end, __u32 len)
{
	__be16 *ports = p->l4;

	if ((void *)(ports + 6) > end || len < 12)
		return DROP_MALFORMED;
	p->l4_header = 12;
	p->key->sport = ports[0];
	p->key->dport = ports[1];
	return PASSED;
}

static __always_inline enum verdict parse_icmp(struct packet *p, void *end, __u32 len)
{
	struct icmphdr *icmp = p->l4;

	if ((void *)(icmp + 1) > end || len < sizeof(*icmp))
		return DROP_MALFORMED;
	p->icmp_type = icmp->type;
	p->l4_csum = &icmp->checksum;
	p->l4_csum_at += offsetof(struct icmphdr, checksum);
	return PASSED;
}

static __always_inline enum verdict parse_l4(struct packet *p, void *end, __u32 len)
{
	switch (p->key->proto) {
	case IPPROTO_TCP:
		return parse_tcp(p, end, len);
	case IPPROTO_UDP:
		return parse_udp(p, end, len);
	case IPPROTO_SCTP:
		return parse_sctp(p, end, len);
	case IPPROTO_ICMP:
		return p->v6 ? DROP_UNSUPPORTED : parse_icmp(p, end, len);
	case IPPROTO_ICMPV6:
		return p->v6 ? parse_icmp(p, end, len) : DROP_UNSUPPORTED;
	}
	return DROP_UNSUPPORTED;
}

/* False: too short to have addresses.  room: bytes of the frame after the Ethernet header. */
static __always_inline bool parse_v4(struct packet *p, void *end, __u32 room)
{
	struct iphdr *ip = p->ip;
	__u32 header, total;

	if ((void *)(ip + 1) > end)
		return false;
	map_v4(&p->key->src, ip->saddr);
	map_v4(&p->key->dst, ip->daddr);
	p->key->proto = ip->protocol;
	p->ttl = ip->ttl;
	header = ip->ihl * 4;
	total = bpf_ntohs(ip->tot_len) ?: room;	/* 0: a GSO packet beyond 64 KiB */
	p->l4 = p->ip + header;
	p->l4_csum_at = ETH_HLEN + header;
	p->l4_len = total - header;
	if (ip->version != 4 || header < sizeof(*ip) || total < header || total > room)
		p->fault = DROP_MALFORMED;
	else if (ip->frag_off & bpf_htons(0x3fff))
		p->fault = DROP_FRAGMENT;
	else
		p->fault = parse_l4(p, end, p->l4_len);
	return true;
}

static __always_inline bool parse_v6(struct packet *p, void *end, __u32 room)
{
	struct ipv6hdr *ip = p->ip;
	__u32 len;

	if ((void *)(ip + 1) > end)
		return false;
	__builtin_memcpy(&p->key->src, &ip->saddr, sizeof(ip->saddr));
	__builtin_memcpy(&p->key->dst, &ip->daddr, sizeof(ip->daddr));
	p->key->proto = ip->nexthdr;
	p->ttl = ip->hop_limit;
	p->v6 = true;
	p->l4 = ip + 1;
	p->l4_csum_at = ETH_HLEN + sizeof(*ip);
	len = bpf_ntohs(ip->payload_len) ?: room - sizeof(*ip);	/* 0: a GSO packet beyond 64 KiB */
	p->l4_len = len;
	/* A v4-mapped address on the wire (RFC 4942, section 2.2) would meet IPv4's flows. */
	if (ip->version != 6 || len > room - sizeof(*ip) || is_v4(&p->key->src) || is_v4(&p->key->dst))
		p->fault = DROP_MALFORMED;
	else if (ip->nexthdr == IPPROTO_FRAGMENT)
		p->fault = DROP_FRAGMENT;
	else
		p->fault = parse_l4(p, end, len);
	return true;
}

/* The fragment header of IPv6 (RFC 8200, section 4.5). */
struct fragment_header {
	__u8 nexthdr;
	__u8 reserved;
	__be16 offset;
	__be32 id;
};

/* What only a packet with the fault DROP_FRAGMENT has: which part of which datagram it is, and of the first the L4 header, which must be
 * whole in it (RFC 1858, section 3).  Only then has it no fault any more.
 */
static __always_inline void parse_fragment(struct packet *p, void *end)
{
	__u32 word;

	if (p->fault != DROP_FRAGMENT)
		return;
	p->fault = DROP_BAD_FRAGMENT;
	if (p->v6) {
		struct fragment_header *header = p->l4;

		if ((void *)(header + 1) > end || p->l4_len < sizeof(*header))
			return;
		word = bpf_ntohs(header->offset);
		p->more = word & 1;
		p->offset = word & 0xfff8;
		p->id = header->id;
		p->key->proto = header->nexthdr;
		p->l4 = header + 1;
		p->l4_csum_at += sizeof(*header);
		p->l4_len -= sizeof(*header);
	} else {
		struct iphdr *ip = p->ip;

		word = bpf_ntohs(ip->frag_off);
		p->more = word & 0x2000;
		p->offset = (word & 0x1fff) * 8;
		p->id = ip->id;
	}
	p->later = p->offset;
	if (!p->l4_len || p->offset + p->l4_len > 0xffff || (p->more && p->l4_len % 8))
		return;
	p->fault = p->later ? PASSED : parse_l4(p, end, p->l4_len);
	if (p->fault == DROP_MALFORMED)
		p->fault = DROP_BAD_FRAGMENT;
}

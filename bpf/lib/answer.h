/* Tell the sender why its packet was dropped: ICMP errors (RFC 792, RFC 4443), and resets (RFC 9293, section 3.5.2).
 * A program of its own, which the drop leads to.  The answer comes from the address that was dialled, by the way it came.
 */

#define QUOTE 128			/* bytes of the packet that an error quotes: its headers, with every option */
#define ANSWER_MOST 176			/* bytes from the IP header on */
#define ANSWER_EVERY_NS 1000000ULL	/* for each CPU: an answer is no way to make us send */
#define ANSWER_BURST_NS (64 * ANSWER_EVERY_NS)

static __always_inline bool may_tell(struct scratch *scratch, const struct packet *p)
{
	return may_now(&scratch->told_ns, p->now, ANSWER_EVERY_NS, ANSWER_BURST_NS);
}

/* The L3 header of an answer to `p`.  Returns how long it is. */
static __always_inline __u32 write_ip(void *to, const struct packet *p, __u8 proto, __u32 len)
{
	struct ipv6hdr *v6 = to;
	struct iphdr *v4 = to;

	if (p->v6) {
		*(__be32 *)v6 = bpf_htonl(6 << 28);
		v6->payload_len = bpf_htons(len);
		v6->nexthdr = proto;
		v6->hop_limit = 64;
		__builtin_memcpy(&v6->saddr, &p->key->dst, sizeof(v6->saddr));
		__builtin_memcpy(&v6->daddr, &p->key->src, sizeof(v6->daddr));
		return sizeof(*v6);
	}
	*v4 = (struct iphdr){ .version = 4, .ihl = 5, .ttl = 64, .protocol = proto };
	v4->tot_len = bpf_htons(sizeof(*v4) + len);
	v4->frag_off = bpf_htons(0x4000);
	v4->saddr = p->key->dst.w[3];
	v4->daddr = p->key->src.w[3];
	v4->check = ~csum_fold16(bpf_csum_diff(NULL, 0, (void *)v4, sizeof(*v4), 0));
	return sizeof(*v4);
}

/* Make the frame just that answer, and turn it round. */
static __always_inline int tell(CTX *ctx, struct packet *p, void *answer, __u64 len, enum verdict told)
{
	__u8 mac[ETH_ALEN];
	struct ethhdr *eth;

	asm volatile("" : "+r"(len));
	if (len > ANSWER_MOST)
		return CTX_DROP;
	asm volatile("" : "+r"(len));
	if (!len || ctx_resize(ctx, ETH_HLEN + len) || ctx_write(ctx, ETH_HLEN, answer, len))
		return CTX_DROP;
	eth = ctx_data(ctx);
	if ((void *)(eth + 1) > ctx_end(ctx))
		return CTX_DROP;
	__builtin_memcpy(mac, eth->h_dest, ETH_ALEN);
	__builtin_memcpy(eth->h_dest, eth->h_source, ETH_ALEN);
	__builtin_memcpy(eth->h_source, mac, ETH_ALEN);
	p->verdict = told;
	return ctx_reply(ctx);
}

struct error {
	__u8 type;
	__u8 code;
	__sum16 checksum;
	__be32 rest;		/* the MTU, in IPv4 in its lower half */
	__u8 quote[QUOTE];	/* zeros behind its end: they change no sum */
};

enum { UNREACHABLE_V4 = 3, TIME_EXCEEDED_V4 = 11, UNREACHABLE_V6 = 1, TOO_BIG_V6 = 2, TIME_EXCEEDED_V6 = 3 };
enum { PORT_V4 = 3, FRAGMENTATION_NEEDED_V4 = 4, PORT_V6 = 4 };

static __always_inline void name_error(struct error *error, bool v6, enum verdict reason, __u32 mtu)
{
	switch (reason) {
	case DROP_TOO_BIG:
		error->type = v6 ? TOO_BIG_V6 : UNREACHABLE_V4;
		error->code = v6 ? 0 : FRAGMENTATION_NEEDED_V4;
		error->rest = bpf_htonl(mtu);
		break;
	case DROP_TTL_EXCEEDED:
		error->type = v6 ? TIME_EXCEEDED_V6 : TIME_EXCEEDED_V4;
		break;
	default:
		error->type = v6 ? UNREACHABLE_V6 : UNREACHABLE_V4;
		error->code = v6 ? PORT_V6 : PORT_V4;
	}
}

static __always_inline int tell_error(CTX *ctx, struct packet *p, enum verdict reason, __u32 mtu, enum verdict told)
{
	struct {
		__u8 ip[sizeof(struct ipv6hdr)];	/* its end, for IPv4 */
		struct error error;
	} answer = {};
	__u32 head = p->v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
	__u64 quoted = (__u32)(p->l4 - p->ip) + p->l4_len, len;
	__u8 proto = p->v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP;
	__u64 sum;

	asm volatile("" : "+r"(quoted));	/* the verifier wants each bound on the very register that is used */
	if (quoted > QUOTE)
		quoted = QUOTE;
	asm volatile("" : "+r"(quoted));
	if (quoted < sizeof(struct iphdr) || ctx_read(ctx, ETH_HLEN, answer.error.quote, quoted))
		return CTX_DROP;
	name_error(&answer.error, p->v6, reason, mtu);
	len = offsetof(struct error, quote) + quoted;
	sum = bpf_csum_diff(NULL, 0, (void *)&answer.error, sizeof(answer.error), 0);
	if (p->v6) {
		struct flow_key back = { .src = p->key->dst, .dst = p->key->src, .proto = proto };

		sum += csum_pseudo(&back, len, true);
	}
	answer.error.checksum = ~csum_fold16(csum_fold32(sum));
	write_ip(answer.ip + sizeof(struct ipv6hdr) - head, p, proto, len);
	return tell(ctx, p, answer.ip + sizeof(struct ipv6hdr) - head, head + len, told);
}

static __always_inline int tell_reset(CTX *ctx, struct packet *p)
{
	struct {
		__u8 ip[sizeof(struct ipv6hdr)];
		struct tcphdr tcp;
	} answer = {};
	__u32 head = p->v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
	struct flow_key back = { .src = p->key->dst, .dst = p->key->src, .proto = IPPROTO_TCP };
	struct tcphdr *tcp = p->l4, *reset = &answer.tcp;
	__u16 pseudo = csum_pseudo(&back, sizeof(*reset), p->v6);
	__u32 consumed;

	if ((void *)(tcp + 1) > ctx_end(ctx))	/* the verifier of 6.8 does not know by now which protocol was parsed */
		return CTX_DROP;
	consumed = p->l4_len - tcp->doff * 4 + tcp->syn + tcp->fin;
	reset->source = tcp->dest;
	reset->dest = tcp->source;
	reset->doff = sizeof(*reset) / 4;
	reset->rst = 1;
	if (tcp->ack) {
		reset->seq = tcp->ack_seq;
	} else {
		reset->ack = 1;
		reset->ack_seq = bpf_htonl(bpf_ntohl(tcp->seq) + consumed);
	}
	if (ctx_partly_summed(p->summed, tcp->check, csum_pseudo(p->key, p->l4_len, p->v6)))
		reset->check = pseudo;
	else
		reset->check = ~csum_fold16(csum_fold32((__u64)pseudo + bpf_csum_diff(NULL, 0, (void *)reset, sizeof(*reset), 0)));
	write_ip(answer.ip + sizeof(struct ipv6hdr) - head, p, IPPROTO_TCP, sizeof(*reset));
	return tell(ctx, p, answer.ip + sizeof(struct ipv6hdr) - head, head + sizeof(*reset), TOLD_NO_BACKEND);
}

static __always_inline int answer_ip(CTX *ctx, struct packet *p, struct scratch *scratch)
{
	bool tcp = p->key->proto == IPPROTO_TCP && !p->later;

	p->verdict = scratch->reason;
	if (p->later && !p->v6)
		return CTX_DROP;	/* RFC 1122, section 3.2.2 */
	if (p->fault || !may_tell(scratch, p) || (tcp && p->tcp_flags & TCP_RST && scratch->reason == DROP_NO_BACKEND))
		return CTX_DROP;
	switch (scratch->reason) {
	case DROP_TOO_BIG:
		return tell_error(ctx, p, DROP_TOO_BIG, scratch->mtu, TOLD_TOO_BIG);
	case DROP_TTL_EXCEEDED:
		return tell_error(ctx, p, DROP_TTL_EXCEEDED, 0, TOLD_TTL_EXCEEDED);
	}
	return tcp ? tell_reset(ctx, p) : tell_error(ctx, p, DROP_NO_BACKEND, 0, TOLD_NO_BACKEND);
}

/* The program: the packet as it came, and in `scratch` why it is dropped. */
static __always_inline int answer(CTX *ctx)
{
	struct scratch *scratch = scratch_of_cpu();
	struct flow_key key = {};
	struct packet p = packet_of(ctx, &key);
	struct ethhdr *eth = ctx_data(ctx);
	void *end = ctx_end(ctx);
	int action = CTX_DROP;

	p.verdict = DROP_REWRITE_FAILED;
	if (scratch && (void *)(eth + 1) <= end) {
		if (eth->h_proto == bpf_htons(ETH_P_IP)) {
			if (parse_v4(&p, end, ctx_len(ctx) - sizeof(*eth))) {
				parse_fragment(&p, end);
				action = answer_ip(ctx, &p, scratch);
			}
		} else if (parse_v6(&p, end, ctx_len(ctx) - sizeof(*eth))) {
			parse_fragment(&p, end);
			action = answer_ip(ctx, &p, scratch);
		}
	}
	count_verdict(p.verdict);
	return action;
}

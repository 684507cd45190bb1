/* The way of a fragment.  Its first is balanced as a whole packet is; the others follow by what it noted: fragments.h. */

/* May it be of a flow of ours, by its addresses?  It is to a VIP, or an answer of a backend. */
static __always_inline bool concerns_us(const struct packet *p)
{
	return map_get(vips, &p->key->dst) || map_get(backend_hosts, &p->key->src);
}

/* Nobody can tell any more.  To this machine's own address is its business; an answer would show the backend's. */
static __always_inline int not_judged(struct packet *p, enum verdict reason)
{
	return is_vip(&p->key->dst) || map_get(backend_hosts, &p->key->src) ? drop(p, reason) : CTX_PASS;
}

static __always_inline int first_fragment(CTX *ctx, struct packet *p)
{
	bool icmp = p->key->proto == (p->v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
	int action;
	__u32 id;

	if (p->fault)
		action = not_balanced(p, p->fault);
	else if (!icmp)
		action = balance(ctx, p);
	else if (is_echo_request(p) && is_vip(&p->key->dst) && !martian(p))
		action = answer_echo(ctx, p);
	else
		action = not_balanced(p, DROP_FRAGMENT);
	if (!p->more)
		return action;	/* and the last (RFC 6946) */
	if (p->verdict == FORWARDED || p->verdict == REPLIED) {
		id = new_id();
		write_id(ctx, p, id);
		note(p, FRAGMENT_OF_FLOW, id);
	} else if (p->verdict == ECHO_ANSWERED) {
		note(p, FRAGMENT_OF_ECHO, 0);
	} else if (p->verdict == PASSED && concerns_us(p)) {
		note(p, FRAGMENT_PASSED, 0);
	}
	return action;
}

/* Its first fragment may be behind it: let that one overtake. */
static __always_inline int unknown_fragment(CTX *ctx, struct packet *p, __u32 rounds)
{
	if (!concerns_us(p))
		return CTX_PASS;
	if (rounds >= CTX_ROUNDS || !may_retry(p))
		return not_judged(p, DROP_FRAGMENT);
	p->verdict = FRAGMENT_RETRIED;
	return ctx_again(ctx, rounds + 1);
}

/* A later fragment of a flow's datagram begins no flow, and moves none. */
static __always_inline int fragment_of_flow(CTX *ctx, struct packet *p, const struct fragment *first)
{
	__u32 id = first->id;
	struct found found;
	int action;

	p->key->sport = first->sport;
	p->key->dport = first->dport;
	if (!find_flow(p->key, hash_of(p->key, true), p->v6, &found))
		return drop(p, DROP_FRAGMENT);
	if (found.back ? !takes_answers(found.flow, found.life, p->tick) : over(p, found.flow, found.life))
		return drop(p, DROP_FRAGMENT);
	action = found.back ? reply(ctx, p, found.flow, found.life) : forward(ctx, p, found.flow, found.life);
	if (p->verdict == FORWARDED || p->verdict == REPLIED)
		write_id(ctx, p, id);
	return action;
}

static __always_inline int later_fragment(CTX *ctx, struct packet *p, __u32 rounds)
{
	struct fragment *first = noted(p);

	if (!first)
		return unknown_fragment(ctx, p, rounds);
	if (first->kind == FRAGMENT_PASSED)
		return CTX_PASS;
	if (p->offset < first->header)
		return drop(p, DROP_BAD_FRAGMENT);	/* RFC 3128: it would change what the flow was chosen by */
	if (first->kind == FRAGMENT_OF_ECHO)
		return turn_round(ctx, p);
	return fragment_of_flow(ctx, p, first);
}

/* The program: a packet to us whose fault is DROP_FRAGMENT, as it came.  It is compiled once for both families. */
static __always_inline int weir_fragment(CTX *ctx)
{
	__u32 rounds = ctx_rounds(ctx), room = ctx_len(ctx) - sizeof(struct ethhdr);
	struct ethhdr *eth = ctx_data(ctx);
	void *end = ctx_end(ctx);
	struct flow_key key = {};
	int action = CTX_DROP;
	struct packet p;

	if ((void *)(eth + 1) > end)
		return CTX_DROP;
	p = packet_of(ctx, &key);
	if (!(eth->h_proto == bpf_htons(ETH_P_IP) ? parse_v4(&p, end, room) : parse_v6(&p, end, room)))
		return CTX_DROP;
	parse_fragment(&p, end);
	if (p.fault == DROP_BAD_FRAGMENT)
		action = not_judged(&p, DROP_BAD_FRAGMENT);
	else
		action = p.later ? later_fragment(ctx, &p, rounds) : first_fragment(ctx, &p);
	count_verdict(p.verdict);
	return action;
}

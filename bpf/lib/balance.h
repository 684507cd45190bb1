/* The whole path of one packet: an established flow, a reply, a new flow, or not ours. */

/* To a VIP: dropped for `reason`.  Anything else is not ours. */
static __always_inline int not_balanced(struct packet *p, enum verdict reason)
{
	if (map_get(vips, &p->key->dst))
		return drop(p, reason);
	return CTX_PASS;
}

/* Must the flow be started anew?  Too old; a new connection on an old one's ports; source NAT whose port was lost. */
static __always_inline bool over(const struct packet *p, const struct flow *flow)
{
	if (flow->state >= STATE_CLOSING && opens(p))
		return true;
	return !seen_just_now(p, flow) &&
	       (expired(flow, p->now) || (source_changed(flow, p->key) && !pair_stands(flow, p->key)));
}

/* May it move to another backend?  UDP always may, TCP while the first SYN is not answered. */
static __always_inline bool stranded(const struct packet *p, const struct flow *flow)
{
	if (p->key->proto == IPPROTO_TCP)
		return flow->state == STATE_HALF_OPEN && opens(p) && backend_lost(flow);
	return !seen_just_now(p, flow) && backend_lost(flow);
}

/* TCP, UDP and SCTP. */
static __always_inline int balance(CTX *ctx, struct packet *p)
{
	struct flow *flow = map_get(conntrack, p->key), *replied = NULL, *old = NULL;
	struct flow_key forward;
	struct ends ends;
	bool begins = false;

	if (!flow || flow->kind == KIND_REVERSE) {
		replied = flow_of_reply(p, flow, &forward);
		flow = NULL;
	} else if (over(p, flow)) {
		if (flow->flags & FLOW_PAIRED)
			forget_partner(flow, p->key);
		flow = NULL;
	} else if (stranded(p, flow)) {
		old = flow;
		flow = NULL;
	}

	if (replied) {
		flow = replied;
		touch_out(ctx, p, flow);
		count_out(ctx, flow->frontend_id, flow->backend_id);
		ends = (struct ends){ &forward.dst, &forward.src, forward.dport, forward.sport };
		return send(ctx, p, &ends, REPLIED);
	}
	if (flow) {
		touch_in(ctx, p, flow);
	} else {
		struct frontend *frontend = frontend_of(p);

		if (!frontend)
			return not_balanced(p, DROP_NO_FRONTEND);
		if (frontend->flags & FRONTEND_LOCAL) {
			count_in(ctx, frontend->id, 0, false);
			p->verdict = DELIVERED;
			return CTX_PASS;
		}
		flow = start_flow(ctx, p, frontend, old);
		if (!flow)
			return CTX_DROP;
		begins = flow != old;
	}
	count_in(ctx, flow->frontend_id, flow->backend_id, begins);
	ends = (struct ends){ &flow->new_src, &flow->new_dst, flow->new_sport, flow->new_dport };
	return send(ctx, p, &ends, FORWARDED);
}

static __always_inline int handle_icmp(CTX *ctx, struct packet *p, void *end)
{
	int action;

	if (is_error(p) && turn_back(ctx, p, end, &action))
		return action;
	if (is_echo_request(p) && !martian(p) && map_get(vips, &p->key->dst))
		return answer_echo(ctx, p);
	return not_balanced(p, DROP_UNSUPPORTED);
}

static __always_inline int handle_ip(CTX *ctx, struct packet *p, void *end)
{
	bool icmp = p->key->proto == (p->v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);

	if (p->v6 && icmp && !p->fault && p->icmp_type == ND_SOLICITATION && p->ttl == 255 && !ctx_for_another(ctx) &&
	    p->l4 + 8 + sizeof(struct addr) <= end)
		return answer_solicitation(ctx, p, p->l4 + 8);
	if (!ctx_for_us(ctx))
		return CTX_PASS;
	if (p->fault)
		return not_balanced(p, p->fault);
	return icmp ? handle_icmp(ctx, p, end) : balance(ctx, p);
}

/* Every packet, from either hook. */
static __always_inline int weir(CTX *ctx)
{
	struct flow_key key = {};
	struct packet p = { .key = &key, .now = now_ns() };
	struct ethhdr *eth;
	int action = CTX_PASS;
	__u32 room;
	void *end;

	ctx_make_linear(ctx);
	eth = ctx_data(ctx);
	end = ctx_end(ctx);
	if ((void *)(eth + 1) > end || ctx_tagged(ctx))
		return CTX_PASS;
	p.eth = eth;
	p.ip = eth + 1;
	room = ctx_len(ctx) - sizeof(*eth);
	/* Two calls, so that the compiler makes the path twice and `v6` is no question in either. */
	if (eth->h_proto == bpf_htons(ETH_P_IP)) {
		if (parse_v4(&p, end, room))
			action = handle_ip(ctx, &p, end);
	} else if (eth->h_proto == bpf_htons(ETH_P_IPV6)) {
		if (parse_v6(&p, end, room))
			action = handle_ip(ctx, &p, end);
	} else if (eth->h_proto == bpf_htons(ETH_P_ARP)) {
		action = answer_arp(ctx, &p, end);
	}
	count_verdict(p.verdict);
	return action;
}

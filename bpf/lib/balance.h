/* The whole path of one packet: an established flow, a reply, a new flow, or not ours. */

/* To a VIP: dropped for `reason`.  Anything else is not ours. */
static __always_inline int not_balanced(struct packet *p, enum verdict reason)
{
	return is_vip(&p->key->dst) ? drop(p, reason) : CTX_PASS;
}

/* Must the flow begin again?  Too old; ended; a new connection on an old one's ports, or one whose backend serves no more. */
static __always_inline bool over(const struct packet *p, const struct flow *flow, __u64 life)
{
	if (flags_of(life) & FLOW_OVER || (opens(p) && (state_of(life) >= STATE_CLOSED || has_left(flow, life))))
		return true;
	return !seen_just_now(flow, p->tick) && (expired(flow, life, p->tick) || is_cut(flow, life));
}

/* May it move to another backend?  UDP always may, TCP at its first SYN.  One that has had no packet has just been given its backend: a
 * tick may have passed since.
 */
static __always_inline bool may_move(const struct packet *p, const struct flow *flow)
{
	return p->key->proto == IPPROTO_TCP ? opens(p) : !seen_just_now(flow, p->tick) && flow->packets_in;
}

/* `begin` has just chosen this flow's backend: if that is down, so are all others. */
static __always_inline bool stays(void)
{
	struct scratch *scratch = scratch_of_cpu();
	bool stays = scratch && scratch->stays;

	if (stays)
		scratch->stays = false;
	return stays;
}

static __always_inline int forward(CTX *ctx, struct packet *p, struct flow *flow, __u64 life)
{
	struct rewrite to = { &flow->new_src, &flow->new_dst, flow->new_sport, flow->new_dport, flow->addrs_delta, flow->l4_delta,
			      flow->mode != MODE_DEFAULT };
	int action;

	touch_in(ctx, p, flow, life);
	count_in(ctx, flow->frontend_id, flow->backend_id);
	action = send(ctx, p, &to, FORWARDED);
	return still(flow, life) ? action : drop(p, DROP_REWRITE_FAILED);
}

static __always_inline int reply(CTX *ctx, struct packet *p, struct flow *flow, __u64 life)
{
	struct rewrite to = way_back(flow);
	int action;

	touch_out(ctx, p, flow, life);
	count_out(ctx, flow->frontend_id, flow->backend_id);
	action = send(ctx, p, &to, REPLIED);
	return still(flow, life) ? action : drop(p, DROP_REWRITE_FAILED);
}

/* had: there is a flow of this packet. */
static __always_inline int to_new(CTX *ctx, struct packet *p, __u64 hash, bool had)
{
	struct scratch *scratch = scratch_of_cpu();

	if (scratch) {
		scratch->hash = hash;
		scratch->had = had;
		jump(ctx, PROGRAM_NEW);
	}
	return drop(p, DROP_REWRITE_FAILED);
}

/* TCP, UDP and SCTP: packets of flows that are known. */
static __always_inline int balance(CTX *ctx, struct packet *p)
{
	__u64 hash = hash_of(p->key, p->v6);
	struct found found;

	if (find_flow(p->key, hash, p->v6, &found)) {
		struct flow *flow = found.flow;

		if (!found.back) {
			if (over(p, flow, found.life) || (may_move(p, flow) && !stays() && backend_lost(flow)))
				return to_new(ctx, p, hash, true);
			return forward(ctx, p, flow, found.life);
		}
		/* A backend that opens a connection from these ends after ours has ended was dialled directly. */
		if (opens_back(p) && state_of(found.life) >= STATE_CLOSED)
			end(flow, found.life);
		else if (takes_answers(flow, found.life, p->tick))
			return reply(ctx, p, flow, found.life);
	}
	if (opens(p) || map_get(vips, &p->key->dst))
		return to_new(ctx, p, hash, false);
	return CTX_PASS;
}

/* Packets of flows that are not, or no more: once the flow stands, they begin again. */
static __always_inline int begin(CTX *ctx, struct packet *p, struct scratch *scratch)
{
	struct frontend *frontend = frontend_of(p);
	struct found old = {};

	if (!frontend)
		return not_balanced(p, DROP_NO_FRONTEND);
	if (!may_begin(frontend, p))
		return CTX_DROP;
	if (frontend->flags & FRONTEND_LOCAL) {
		count_in(ctx, frontend->id, 0);
		p->verdict = DELIVERED;
		return CTX_PASS;
	}
	if (scratch->had && find_flow(p->key, scratch->hash, p->v6, &old) && old.back)
		old.flow = NULL;
	scratch->stays = old.flow && !over(p, old.flow, old.life);
	if (!start_flow(ctx, p, frontend, &old, scratch)) {
		scratch->stays = false;	/* not for the next packet of this CPU */
		return CTX_DROP;
	}
	jump(ctx, PROGRAM_MAIN);
	return drop(p, DROP_REWRITE_FAILED);
}

static __always_inline int handle_icmp(CTX *ctx, struct packet *p, void *end)
{
	int action;

	if (is_error(p) && turn_back(ctx, p, end, &action))
		return action;
	if (is_echo_request(p) && is_vip(&p->key->dst) && !martian(p))
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
	if (p->fault) {
		if (p->fault == DROP_FRAGMENT)
			jump(ctx, PROGRAM_FRAGMENT);
		return not_balanced(p, p->fault);
	}
	return icmp ? handle_icmp(ctx, p, end) : balance(ctx, p);
}

/* Every packet, from either hook. */
static __always_inline int weir(CTX *ctx)
{
	struct flow_key key = {};
	struct packet p;
	struct ethhdr *eth;
	int action = CTX_PASS;
	__u32 room;
	void *end;

	ctx_make_linear(ctx);
	if (!ctx_untag(ctx))
		return CTX_DROP;
	eth = ctx_data(ctx);
	end = ctx_end(ctx);
	if ((void *)(eth + 1) > end || ctx_tagged(ctx))
		return CTX_PASS;
	p = packet_of(ctx, &key);
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
	} else if (eth->h_proto == bpf_htons(ETH_P_HELLO)) {
		note_hello(&p, end);
	}
	count_verdict(p.verdict);
	return action;
}

/* The program that `to_new` leads to: the packet as it came.  It is compiled once for both families, as it is big. */
static __always_inline int weir_new(CTX *ctx)
{
	struct scratch *scratch = scratch_of_cpu();
	struct ethhdr *eth = ctx_data(ctx);
	void *end = ctx_end(ctx);
	int action = CTX_DROP;
	struct packet p;
	__u32 room;

	if (!scratch || (void *)(eth + 1) > end)
		return CTX_DROP;
	p = packet_of(ctx, &scratch->key);
	if (!ctx_has_our_mac(ctx)) {
		count_verdict(PASSED);
		return CTX_PASS;
	}
	room = ctx_len(ctx) - sizeof(*eth);
	if (!(eth->h_proto == bpf_htons(ETH_P_IP) ? parse_v4(&p, end, room) : parse_v6(&p, end, room)))
		return CTX_DROP;
	parse_fragment(&p, end);
	if (!p.fault)
		action = begin(ctx, &p, scratch);
	if (p.more && p.verdict == DELIVERED)
		note(&p, FRAGMENT_PASSED, 0);
	count_verdict(p.verdict);
	return action;
}

/* The flow table.  Entries end lazily: one that is too old is a miss.  The agent sweeps such entries away, and where it does
 * not, a full table throws others out: room.h.
 */

#define SECOND 1000000000ULL
#define HALF_OPEN_S 30
#define CLOSING_S 30
#define CLOSED_S 5
#define TCP_IDLE_S 1800
#define OTHER_IDLE_S 120

static __always_inline __u64 timeout_ns(const struct flow *flow)
{
	switch (flow->state) {
	case STATE_HALF_OPEN:
		return HALF_OPEN_S * SECOND;
	case STATE_CLOSING:
		return CLOSING_S * SECOND;
	case STATE_CLOSED:
		return CLOSED_S * SECOND;
	}
	return flow->idle_timeout_s * SECOND;
}

/* Signed: a peer's flow may have been written with a finer clock that is a tick ahead. */
static __always_inline bool expired(const struct flow *flow, __u64 now)
{
	return (__s64)(now - flow->last_seen_ns) > (__s64)timeout_ns(flow);
}

/* In this very tick: what was checked then still holds, and a busy flow pays for it once a tick. */
static __always_inline bool seen_just_now(const struct packet *p, const struct flow *flow)
{
	return flow->last_seen_ns == p->now;
}

static __always_inline void enter(struct flow *flow, __u8 state)
{
	flow->state = state;
	flow->sync |= SYNC_CHANGED;
}

/* fin: FLOW_FIN_IN or FLOW_FIN_OUT, the packet's direction. */
static __always_inline void track(struct flow *flow, const struct packet *p, __u8 fin)
{
	if (p->key->proto != IPPROTO_TCP)
		return;
	if (p->tcp_flags & (TCP_RST | TCP_FIN)) {
		flow->flags |= p->tcp_flags & TCP_FIN ? fin : 0;
		if (p->tcp_flags & TCP_RST || (flow->flags & FLOW_FIN_IN && flow->flags & FLOW_FIN_OUT))
			enter(flow, STATE_CLOSED);
		else
			enter(flow, STATE_CLOSING);
	} else if (flow->state == STATE_HALF_OPEN && fin == FLOW_FIN_IN && !(p->tcp_flags & TCP_SYN)) {
		enter(flow, STATE_ESTABLISHED);
	}
}

/* The key of the other entry of a pair: of the reverse one for a forward entry, and the other way round. */
static __always_inline void partner_key(struct flow_key *key, const struct flow *flow, __u8 proto)
{
	key->src = flow->new_dst;
	key->dst = flow->new_src;
	key->sport = flow->new_dport;
	key->dport = flow->new_sport;
	key->proto = proto;
	__builtin_memset(key->pad, 0, sizeof(key->pad));
}

static __always_inline bool opens(const struct packet *p)
{
	return p->key->proto == IPPROTO_TCP && (p->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

/* Replies then come to an address or a port that only the reverse entry leads back from. */
static __always_inline bool source_changed(const struct flow *flow, const struct flow_key *key)
{
	return flow->new_sport != key->sport || !same_addr(&flow->new_src, &key->src);
}

/* Does the reverse entry still lead to the flow of `key`? */
static __always_inline bool pair_stands(const struct flow *flow, const struct flow_key *key)
{
	struct flow_key partner;
	struct flow *reverse;

	partner_key(&partner, flow, key->proto);
	reverse = map_get(conntrack, &partner);
	return reverse && same_addr(&reverse->new_dst, &key->src) && reverse->new_dport == key->sport &&
	       same_addr(&reverse->new_src, &key->dst) && reverse->new_sport == key->dport;
}

/* Not if its port is another's by now: whoever needs one may take it from a flow that is over. */
static __always_inline void forget_partner(const struct flow *flow, const struct flow_key *key)
{
	struct flow_key partner;

	partner_key(&partner, flow, key->proto);
	if (pair_stands(flow, key))
		map_delete(conntrack, &partner);
}

/* Is `p` a reply of this flow? */
static __always_inline bool replies(const struct packet *p, const struct flow *flow)
{
	return flow->kind == KIND_FORWARD && same_addr(&flow->new_dst, &p->key->src) && flow->new_dport == p->key->sport &&
	       same_addr(&flow->new_src, &p->key->dst) && flow->new_sport == p->key->dport && !expired(flow, p->now);
}

/* The flow whose reply `p` is, and its key; NULL: none.  reverse: the entry under the packet's own key, if there is one.
 * Without one the frontends that the source may answer for are tried: so a plain new flow costs one insert, not two.
 */
static __always_inline struct flow *flow_of_reply(const struct packet *p, const struct flow *reverse, struct flow_key *key)
{
	struct backend_key source = { .port = p->key->sport, .proto = p->key->proto };
	struct origin *origin;
	struct flow *flow;

	if (reverse) {
		partner_key(key, reverse, p->key->proto);
		flow = map_get(conntrack, key);
		return flow && replies(p, flow) ? flow : NULL;
	}
	if (opens(p))	/* no reply, surely */
		return NULL;
	__builtin_memcpy(source.addr, &p->key->src, sizeof(source.addr));
	origin = map_get(origins, &source);
	if (!origin)
		return NULL;
	*key = (struct flow_key){ .src = p->key->dst, .sport = p->key->dport, .proto = p->key->proto };
	for (int i = 0; i < CANDIDATES && i < origin->count; i++) {
		__builtin_memcpy(&key->dst, origin->candidates[i].vip, sizeof(key->dst));
		key->dport = origin->candidates[i].port;
		flow = map_get(conntrack, key);
		if (flow && replies(p, flow))
			return flow;
	}
	return NULL;
}

/* UDP has no end: a flow moves once its backend is down, or gone from the plan. */
static __always_inline bool backend_lost(const struct flow *flow)
{
	struct backend *backend = backend_by_id(flow->backend_id);

	return !backend || backend->port != flow->new_dport ||
	       !same_addr((struct addr *)backend->addr, &flow->new_dst) || !is_up(backend);
}

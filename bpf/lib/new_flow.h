/* A flow's first packet: may it, to which backend, in which mode, under which source port. */

/* An address that is ours alone. */
static __always_inline bool is_vip(const struct addr *addr)
{
	struct vip *vip = map_get(vips, addr);

	return vip && !(vip->flags & VIP_SHARED);
}

/* Sources no client can have: the stack, which would refuse them, never sees these packets. */
static __always_inline bool martian(const struct packet *p)
{
	const struct addr *src = &p->key->src;
	__u8 first = bpf_ntohl(src->w[3]) >> 24;

	if (same_addr(src, &p->key->dst))
		return true;
	if (p->key->proto != IPPROTO_TCP && is_vip(src))	/* two Services would answer each other for ever */
		return true;
	if (!p->v6)
		return first == 0 || first == 127 || first >= 224;
	return (bpf_ntohl(src->w[0]) >> 24) == 0xff || (!src->d[0] && !src->w[2] && bpf_ntohl(src->w[3]) <= 1);
}

static __always_inline bool source_allowed(const struct frontend *frontend, const struct packet *p)
{
	struct source_range_key key = { .bits = 32 + 128, .frontend_id = frontend->id, .network = p->key->src };

	return !(frontend->flags & FRONTEND_SOURCES) || map_get(source_ranges, &key);
}

static __always_inline __u64 first_slot(const struct frontend *frontend, const struct packet *p)
{
	struct stats *stats;

	if (frontend->algorithm != ALGORITHM_RR)
		return flow_hash(p->key, frontend->flags & FRONTEND_AFFINITY);
	stats = stats_of(&frontend_stats, frontend->id);
	return stats ? stats->flows : 0;
}

static __always_inline __u32 choose_backend(const struct frontend *frontend, const struct packet *p)
{
	__u64 position = first_slot(frontend, p);

	if (frontend->flags & FRONTEND_AFFINITY)
		return select_or_keep(frontend, &p->key->src, position, p->now);
	return select_backend(frontend, position);
}

static __always_inline __u8 mode_of(const struct frontend *frontend, const struct packet *p)
{
	if (frontend->mode == MODE_DEFAULT && map_get(backend_hosts, &p->key->src))
		return MODE_FULLNAT;	/* its reply would never come back through us */
	return frontend->mode;
}

/* The interface by which packets to the backend leave; 0: it is this machine; below zero: the verdict that says why there is none. */
__noinline int way_out(CTX *ctx, const struct addr *backend, __u32 tick, bool v6)
{
	struct packet p = { .tick = tick, .v6 = v6, .verdict = DROP_NO_ROUTE };
	const struct addr none = {};
	struct next_hop *hop;

	if (!backend)
		return -DROP_NO_ROUTE;
	hop = next_hop(ctx, &p, &none, backend);
	if (!hop)
		return -(int)p.verdict;
	return hop->how == SEND_LOCAL ? 0 : hop->ifindex;
}

/* The source that a packet leaves with.  NULL: the egress interface has no address of this family, or there is none.
 * A backend on this machine is given the client's in any mode: its answers leave through us anyway (weir_egress.c).
 */
static __always_inline const struct addr *source_of(CTX *ctx, struct packet *p, __u8 *mode, const struct addr *backend)
{
	struct interface *interface;
	const struct addr *source;
	int ifindex;

	if (*mode == MODE_DEFAULT)
		return &p->key->src;
	ifindex = way_out(ctx, backend, p->tick, p->v6);
	if (ifindex < 0) {
		p->verdict = -ifindex;
		return NULL;
	}
	if (!ifindex)
		*mode = map_get(backend_hosts, &p->key->src) ? MODE_FULLNAT : MODE_DEFAULT;
	if (*mode != MODE_ONEARM)
		return *mode == MODE_FULLNAT ? &p->key->dst : &p->key->src;
	interface = map_get(interfaces, &ifindex);
	p->verdict = DROP_NO_INTERFACE;
	if (!interface)
		return NULL;
	source = p->v6 ? &interface->v6 : &interface->v4;
	return source->w[3] || (p->v6 && (source->d[0] || source->w[2])) ? source : NULL;
}

#define PORT_TRIES 16
#define LOCAL_PORTS_FROM 32768	/* this machine dials from here */
#define LOCAL_PORTS_TO 61000	/* to here: the kernel's default */

/* The port in place `number`; onearm shares the address with this machine, so the ports that it dials from are left out. */
static __always_inline __be16 nat_port(__u32 number, __u8 mode)
{
	__u32 all = 65536 - 1024, port;

	if (mode == MODE_ONEARM)
		all -= LOCAL_PORTS_TO - LOCAL_PORTS_FROM;
	port = 1024 + number % all;
	if (mode == MODE_ONEARM && port >= LOCAL_PORTS_FROM)
		port += LOCAL_PORTS_TO - LOCAL_PORTS_FROM;
	return bpf_htons(port);
}

/* Is the way back from this key free?  A flow that is over leaves it.  Its slot is ours meanwhile: otherwise another CPU could take it
 * for a flow with the same way back, and that one's entry would be removed.
 */
__noinline int is_free(const struct flow_key *key, __u64 hash, __u32 now)
{
	struct found taken;

	if (!key || !find_flow(key, hash, true, &taken))
		return true;
	if (takes_answers(taken.flow, taken.life, now) || compare_exchange(&taken.flow->life, taken.life, taken.life | 1) != taken.life)
		return false;
	remove_key(hash, BACK, taken.slot);
	publish(taken.flow, STATE_CLOSED | FLOW_OVER << 8);
	return true;
}

/* Enter the way back from a port, if that is free. */
static __always_inline int try_port(struct flow *flow, struct flow_key *key, __be16 port, __u32 slot)
{
	__u64 hash;

	key->dport = port;
	hash = hash_of(key, true);
	flow->new_sport = port;
	if (!is_free(key, hash, flow->seen))
		return TAKEN;
	return enter(hash, BACK, slot);
}

/* Enter the way back under a free port, which becomes flow->new_sport.  The first try follows from the client alone: another node
 * would mostly give the flow the same port.  Where the client's address is kept its own port comes first, and another only if it
 * dials two VIPs of one backend from the same.  A port whose flow has closed rests until it expires.
 */
__noinline int take_port(struct flow *flow, __u32 slot)
{
	int i __attribute__((unused)), done = TAKEN;
	struct flow_key key;
	__u32 number, step;
	__u64 hash;

	if (!flow)
		return NO_PLACE;
	back_key(&key, flow);
	if (flow->mode == MODE_DEFAULT)
		done = try_port(flow, &key, flow->sport, slot);
	if (done != TAKEN)
		return done;
	own_key(&key, flow);
	hash = mix(flow_hash(&key, false), flow->mode + 1);	/* not the bits that chose the backend */
	number = hash;
	step = (hash >> 32) | 1;	/* each flow its own step: a common one makes the taken ports clot */
	back_key(&key, flow);
	repeat(i, PORT_TRIES) {
		done = try_port(flow, &key, nat_port(number, flow->mode), slot);
		if (done != TAKEN)
			break;
		number += step;
	}
	return done;
}

static __always_inline struct frontend *frontend_of(const struct packet *p)
{
	struct frontend_key key = { .port = p->key->dport, .proto = p->key->proto };

	__builtin_memcpy(key.vip, &p->key->dst, sizeof(key.vip));
	return map_get(frontends, &key);
}

static __always_inline bool no_backend(CTX *ctx, struct packet *p, const struct frontend *frontend)
{
	if (frontend->flags & FRONTEND_REJECT)
		refuse(ctx, p, DROP_NO_BACKEND, 0);
	p->verdict = DROP_NO_BACKEND;
	return false;
}

/* May the packet begin a flow?  No: the verdict says why. */
static __always_inline bool may_begin(const struct frontend *frontend, struct packet *p)
{
	if (martian(p))
		p->verdict = DROP_MARTIAN;
	else if (!source_allowed(frontend, p))
		p->verdict = DROP_SOURCE_DENIED;
	else
		return true;
	return false;
}

/* The slot's fields but `new_sport`, which `take_port` finds, and what follows from it. */
static __always_inline void write_flow(struct flow *flow, const struct packet *p, const struct frontend *frontend, __u32 backend_id,
				       __u8 mode)
{
	__u32 idle = frontend->idle_timeout_s ?: p->key->proto == IPPROTO_TCP ? TCP_IDLE_S : OTHER_IDLE_S;

	flow->src = p->key->src;
	flow->dst = p->key->dst;
	flow->sport = p->key->sport;
	flow->dport = p->key->dport;
	flow->proto = p->key->proto;
	flow->mode = mode;
	flow->idle = idle_of(idle);
	flow->seen = p->tick;
	flow->packets_in = 0;
	flow->packets_out = 0;
	flow->new_sport = p->key->sport;
	flow->frontend_id = frontend->id;
	flow->backend_id = backend_id;
	flow->bytes_in = 0;
	flow->bytes_out = 0;
}

static __always_inline void write_more(__u32 slot, const struct packet *p, const struct frontend *frontend)
{
	struct flow_more *more = map_get(flow_more, &slot);

	if (!more)
		return;
	more->plan_seq = frontend->plan_seq;
	more->created_ns = p->now;
}

static __always_inline void write_deltas(struct flow *flow, const struct packet *p)
{
	__u64 sum = csum_addr(&flow->src, &flow->new_src, p->v6) + csum_addr(&flow->dst, &flow->new_dst, p->v6);
	__u32 ports = csum_word(flow->sport, flow->new_sport) + csum_word(flow->dport, flow->new_dport);

	flow->addrs_delta = csum_fold16(csum_fold32(sum));
	flow->l4_delta = csum_fold16(csum_fold32(sum + ports));
}

/* A slot to write the flow of `p` into: that of the flow whose place it takes, or any.  Ours from now on. */
static __always_inline struct flow *slot_for(const struct packet *p, const struct found *old, __u32 *slot)
{
	struct flow *flow = old->flow;

	if (!flow) {
		*slot = claim(p->tick);
		return flow_at(*slot);
	}
	if (compare_exchange(&flow->life, old->life, old->life | 1) != old->life)
		return NULL;
	*slot = old->slot;
	forget(flow, *slot);
	return flow;
}

/* No entry: full for flows that go on; otherwise PASSED, as it will work the next time. */
static __always_inline __u8 no_place(struct flow *flow, __u64 hash)
{
	return make_place(hash, flow->seen) ? PASSED : DROP_CONNTRACK_FULL;
}

/* Enter both ends of the flow.  The client's first: of two CPUs that start the same flow, one finds out early.  False: the verdict says
 * why; PASSED if the packet is to be looked up again, because the other CPU starts it, or an entry was made free.
 */
static __always_inline bool enter_both(struct packet *p, struct flow *flow, __u32 slot, __u64 hash)
{
	int done = enter(hash, 0, slot);
	struct flow_key back;

	if (done != ENTERED) {
		p->verdict = done == TAKEN ? PASSED : no_place(flow, hash);
		return false;
	}
	done = take_port(flow, slot);
	if (done == ENTERED) {
		write_deltas(flow, p);
		return true;
	}
	remove_key(hash, 0, slot);
	p->verdict = DROP_NAT_PORTS_EXHAUSTED;
	if (done == NO_PLACE) {
		back_key(&back, flow);
		p->verdict = no_place(flow, hash_of(&back, true));
	}
	return false;
}

/* Choose a backend and write the flow.  old: the flow whose place it takes, if any; where `scratch->stays`, it stays if the choice falls
 * on its backend again.  True: the packet's flow is looked up again, also where another CPU has just started it.  False: dropped, the
 * verdict says why.
 */
static __always_inline bool start_flow(CTX *ctx, struct packet *p, const struct frontend *frontend, const struct found *old,
				       struct scratch *scratch)
{
	const struct addr *source, *address;
	struct backend *backend;
	__u32 id, slot = 0;
	struct flow *flow;
	__u8 mode;

	if (!frontend->size)
		return no_backend(ctx, p, frontend);
	id = choose_backend(frontend, p);
	backend = backend_by_id(id);
	p->verdict = DROP_NO_BACKEND;
	if (!backend)
		return false;
	address = (const struct addr *)backend->addr;
	p->verdict = DROP_UNSUPPORTED;
	if (is_v4(address) == p->v6)
		return false;
	if (scratch->stays && old->flow && old->flow->new_dport == backend->port && same_addr(&old->flow->new_dst, address))
		return true;
	scratch->stays = false;
	mode = mode_of(frontend, p);
	source = source_of(ctx, p, &mode, address);
	if (!source)
		return false;
	p->verdict = DROP_CONNTRACK_FULL;
	flow = slot_for(p, old, &slot);
	if (!flow)
		return old->flow;
	write_flow(flow, p, frontend, id, mode);
	flow->new_src = *source;
	flow->new_dst = *address;
	flow->new_dport = backend->port;
	write_more(slot, p, frontend);
	if (!enter_both(p, flow, slot, scratch->hash)) {
		publish(flow, STATE_NONE);
		return p->verdict == PASSED;
	}
	publish(flow, STATE_OPENING);
	count_flow(frontend->id, id);
	scratch->stays = opens(p);	/* others are not asked in the tick of their first packet */
	return true;
}

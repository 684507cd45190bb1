/* A flow's first packet: may it, to which backend, in which mode, under which source port. */

/* Sources no client can have: the stack, which would refuse them, never sees these packets. */
static __always_inline bool martian(const struct packet *p)
{
	const struct addr *src = &p->key->src;
	__u8 first = bpf_ntohl(src->w[3]) >> 24;

	if (same_addr(src, &p->key->dst))
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
	stats = stats_of(MAP(frontend_stats), frontend->id);
	return stats ? stats->flows : 0;
}

static __always_inline __u32 choose_backend(const struct frontend *frontend, const struct packet *p)
{
	__u64 position = first_slot(frontend, p);

	if (frontend->flags & FRONTEND_AFFINITY)
		return select_or_keep(frontend, p, position);
	return select_backend(frontend, position);
}

static __always_inline __u8 mode_of(const struct frontend *frontend, const struct packet *p)
{
	if (frontend->mode == MODE_DEFAULT && map_get(backend_hosts, &p->key->src))
		return MODE_FULLNAT;	/* its reply would never come back through us */
	return frontend->mode;
}

/* Where source NAT writes from.  False: the egress interface has no address of this family. */
static __always_inline bool nat_source(CTX *ctx, struct packet *p, __u8 mode, const struct addr *backend, struct addr *source)
{
	struct interface *interface;
	struct next_hop *hop;

	*source = p->key->dst;
	if (mode == MODE_FULLNAT)
		return true;
	hop = next_hop(ctx, p, &p->key->dst, backend);
	if (!hop)
		return false;
	interface = map_get(interfaces, &hop->ifindex);
	p->verdict = DROP_NO_INTERFACE;
	if (!interface)
		return false;
	*source = p->v6 ? interface->v6 : interface->v4;
	return p->v6 ? source->d[0] || source->d[1] : !!source->w[3];
}

/* Is the entry under this key a reverse one whose flow is gone or over? */
static __always_inline bool abandoned(const struct packet *p, const struct flow *entry)
{
	struct flow_key forward;
	struct flow *flow;

	if (entry->kind != KIND_REVERSE)
		return false;
	partner_key(&forward, entry, p->key->proto);
	flow = map_get(conntrack, &forward);
	return !flow || expired(flow, p->now);
}

#define PORT_TRIES 16
#define EEXIST 17

/* Insert the reverse entry under a free port, which becomes key->dport.  The first try follows from the client alone: another
 * node would mostly give the flow the same port.  Where the client's address is kept its own port comes first, and another only
 * if it dials two VIPs of one backend from the same.  -EEXIST: no port is free; any other error: the table is full.
 */
static __always_inline long take_port(struct flow_key *key, const struct flow *reverse, const struct packet *p, __u8 mode)
{
	__u32 low = mode == MODE_ONEARM ? 61000 : 1024;	/* 61000: above the ports this machine dials from */
	__u64 hash = mix(flow_hash(p->key, false), low);	/* not the bits that chose the backend */
	__u32 port = hash, step = (hash >> 32) | 1;	/* each flow its own step: a common one makes the taken ports clot */

	for (int i = 0; i < PORT_TRIES; i++) {
		struct flow *taken;
		long code;

		if (i || mode != MODE_DEFAULT) {
			key->dport = bpf_htons(low + port % (65536 - low));
			port += step;
		}
		taken = map_get(conntrack, key);	/* first: an insert that fails throws another flow out, too */
		if (taken && !abandoned(p, taken))
			continue;
		code = map_put(conntrack, key, reverse, taken ? BPF_ANY : BPF_NOEXIST);
		if (code != -EEXIST)
			return code;
	}
	return -EEXIST;
}

static __always_inline struct frontend *frontend_of(const struct packet *p)
{
	struct frontend_key key = { .port = p->key->dport, .proto = p->key->proto };

	__builtin_memcpy(key.vip, &p->key->dst, sizeof(key.vip));
	return map_get(frontends, &key);
}

#define ROOM_TRIES 3

/* The packet is as it came: throw others out, and begin anew. */
static __always_inline struct flow *out_of_room(CTX *ctx, struct packet *p, struct scratch *scratch)
{
	if (scratch->made_room < ROOM_TRIES) {
		scratch->made_room++;
		jump(ctx, PROGRAM_ROOM);
	}
	scratch->made_room = 0;
	p->verdict = DROP_CONNTRACK_FULL;
	return NULL;
}

static __always_inline struct flow *no_backend(CTX *ctx, struct packet *p, const struct frontend *frontend)
{
	if (frontend->flags & FRONTEND_REJECT)
		refuse(ctx, p, DROP_NO_BACKEND, 0);
	p->verdict = DROP_NO_BACKEND;
	return NULL;
}

/* Choose a backend and write the flow.  old: the entry it takes the place of, or NULL; it stays
 * if the choice falls on its backend again.  NULL: dropped, the verdict says why.
 */
static __always_inline struct flow *start_flow(CTX *ctx, struct packet *p, const struct frontend *frontend, struct flow *old)
{
	struct flow_key partner = { .proto = p->key->proto };
	struct scratch *scratch = scratch_of_cpu();
	struct backend *backend;
	struct flow *fresh;
	struct addr address;
	__u32 id;
	__u8 mode;
	long code;

	p->verdict = DROP_MARTIAN;
	if (martian(p))
		return NULL;
	p->verdict = DROP_SOURCE_DENIED;
	if (!source_allowed(frontend, p))
		return NULL;
	if (!frontend->size)
		return no_backend(ctx, p, frontend);
	id = choose_backend(frontend, p);
	backend = backend_by_id(id);
	p->verdict = DROP_NO_BACKEND;
	if (!backend || !scratch)
		return NULL;
	fresh = &scratch->flow;
	__builtin_memcpy(&address, backend->addr, sizeof(address));
	p->verdict = DROP_UNSUPPORTED;
	if (is_v4(&address) == p->v6)
		return NULL;
	if (old && old->new_dport == backend->port && same_addr(&old->new_dst, &address)) {
		touch_in(ctx, p, old);
		return old;
	}
	if (old && old->flags & FLOW_PAIRED)
		forget_partner(old, p->key);
	mode = mode_of(frontend, p);

	*fresh = (struct flow){ .kind = KIND_REVERSE, .mode = mode, .state = STATE_ESTABLISHED };
	fresh->frontend_id = frontend->id;
	fresh->backend_id = id;
	fresh->plan_seq = frontend->plan_seq;
	fresh->created_ns = p->now;
	fresh->idle_timeout_s = frontend->idle_timeout_s ?: p->key->proto == IPPROTO_TCP ? TCP_IDLE_S : OTHER_IDLE_S;
	partner.src = address;
	partner.sport = backend->port;
	partner.dst = p->key->src;
	partner.dport = p->key->sport;
	if (mode != MODE_DEFAULT || backend->flags & BACKEND_SHARED) {
		fresh->flags = FLOW_PAIRED;
		fresh->new_src = p->key->dst;
		fresh->new_dst = p->key->src;
		fresh->new_sport = p->key->dport;
		fresh->new_dport = p->key->sport;
		if (mode != MODE_DEFAULT && !nat_source(ctx, p, mode, &address, &partner.dst))
			return NULL;
		p->verdict = DROP_NAT_PORTS_EXHAUSTED;
		code = take_port(&partner, fresh, p, mode);
		if (code == -EEXIST)
			return NULL;
		if (code)
			return out_of_room(ctx, p, scratch);
	}
	fresh->kind = KIND_FORWARD;
	fresh->new_src = partner.dst;
	fresh->new_dst = partner.src;
	fresh->new_sport = partner.dport;
	fresh->new_dport = partner.sport;
	fresh->sync = SYNC_CHANGED;
	if (opens(p))
		fresh->state = STATE_HALF_OPEN;
	touch_in(ctx, p, fresh);
	if (map_put(conntrack, p->key, fresh, BPF_ANY))
		return out_of_room(ctx, p, scratch);
	scratch->made_room = 0;
	note_flow(scratch, p->key);
	return fresh;
}

/* Counters of frontends, backends and flows, each direction on its own. */

static __always_inline struct stats *stats_of(void *map, __u32 id)
{
	return bpf_map_lookup_elem(map, &id);
}

static __always_inline void count_in(CTX *ctx, __u32 frontend_id, __u32 backend_id)
{
	struct stats *frontend = stats_of(&frontend_stats, frontend_id);
	struct stats *backend = stats_of(&backend_stats, backend_id);
	__u32 packets = ctx_packets(ctx), bytes = ctx_len(ctx);

	if (frontend) {
		frontend->packets_in += packets;
		frontend->bytes_in += bytes;
	}
	if (backend) {
		backend->packets_in += packets;
		backend->bytes_in += bytes;
	}
}

static __always_inline void count_out(CTX *ctx, __u32 frontend_id, __u32 backend_id)
{
	struct stats *frontend = stats_of(&frontend_stats, frontend_id);
	struct stats *backend = stats_of(&backend_stats, backend_id);
	__u32 packets = ctx_packets(ctx), bytes = ctx_len(ctx);

	if (frontend) {
		frontend->packets_out += packets;
		frontend->bytes_out += bytes;
	}
	if (backend) {
		backend->packets_out += packets;
		backend->bytes_out += bytes;
	}
}

static __always_inline void count_flow(__u32 frontend_id, __u32 backend_id)
{
	struct stats *frontend = stats_of(&frontend_stats, frontend_id);
	struct stats *backend = stats_of(&backend_stats, backend_id);

	if (frontend)
		frontend->flows++;
	if (backend)
		backend->flows++;
}

static __always_inline void touch_in(CTX *ctx, const struct packet *p, struct flow *flow, __u64 life)
{
	flow->seen = p->tick;
	flow->packets_in += ctx_packets(ctx);
	flow->bytes_in += ctx_len(ctx);
	track(flow, life, p, FLOW_FIN_IN);
}

static __always_inline void touch_out(CTX *ctx, const struct packet *p, struct flow *flow, __u64 life)
{
	flow->seen = p->tick;
	flow->packets_out += ctx_packets(ctx);
	flow->bytes_out += ctx_len(ctx);
	track(flow, life, p, FLOW_FIN_OUT);
}

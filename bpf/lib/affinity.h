/* A client keeps its backend over new flows.  Only frontends that ask for it come here. */

/* The id of the backend that it last began a flow to; 0: none, too long ago, or it serves no more. */
static __always_inline __u32 kept_backend(const struct affinity *kept, __u32 frontend_id, __u64 now)
{
	struct affinity_of of = { .frontend_id = frontend_id, .backend_id = kept->backend_id };
	__u32 *timeout_s = map_get(affinity_s, &of);
	struct backend *backend;

	if (!timeout_s || (__s64)(now - kept->last_ns) > (__s64)(*timeout_s * SECOND))
		return 0;
	backend = backend_by_id(of.backend_id);
	return backend && is_up(backend) ? of.backend_id : 0;
}

/* As `select_backend` chooses it where the client has none. */
__noinline __u32 select_or_keep(const struct frontend *frontend, const struct addr *client, __u64 position, __u64 now)
{
	struct affinity fresh = { .last_ns = now }, *kept;
	struct affinity_key key = {};
	__u32 id;

	if (!frontend || !client)
		return 0;
	key.frontend_id = frontend->id;
	key.client = *client;
	kept = map_get(affinity, &key);
	id = kept ? kept_backend(kept, frontend->id, now) : 0;
	if (id) {
		kept->last_ns = now;
		return id;
	}
	fresh.backend_id = select_backend(frontend, position);
	if (fresh.backend_id)
		map_put(affinity, &key, &fresh, BPF_ANY);
	return fresh.backend_id;
}

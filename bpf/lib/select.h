/* Choose a backend: a slot of the frontend's table, then on past backends that are down. */

#define MAX_STEPS 32

/* The same on every node, so that all choose alike, and another for each cluster, so that no client can choose for itself. */
static __always_inline __u64 seed(void)
{
	__u32 zero = 0;
	__u64 *held = map_get(cluster_seed, &zero);

	return held ? *held : 0;
}

static __always_inline __u64 flow_hash(const struct flow_key *key, bool affinity)
{
	__u64 hash = seed();

	hash = mix(hash, key->src.d[0]);
	hash = mix(hash, key->src.d[1]);
	hash = mix(hash, key->dst.d[0]);
	hash = mix(hash, key->dst.d[1]);
	hash = mix(hash, (__u64)(affinity ? 0 : key->sport) << 32 | (__u64)key->dport << 8 | key->proto);
	return mix(hash, 0x5bd1e9955bd1e995ULL);	/* the last word must reach every bit, too */
}

static __always_inline __u32 backend_id_at(const struct frontend *frontend, __u32 slot)
{
	struct table_key key = { .set = frontend->set, .size = frontend->size, .chunk = slot / CHUNK };
	struct table_chunk *chunk = map_get(tables, &key);

	return chunk ? chunk->backend_id[slot % CHUNK] : 0;
}

static __always_inline struct backend *backend_by_id(__u32 id)
{
	struct backend *backend = map_get(backends, &id);

	return backend && backend->port ? backend : NULL;
}

static __always_inline bool is_up(const struct backend *backend)
{
	struct backend_key key = { .port = backend->port, .proto = backend->proto };
	__u8 *up;

	__builtin_memcpy(key.addr, backend->addr, sizeof(key.addr));
	up = map_get(backend_up, &key);
	return !up || *up;
}

/* The id of the chosen backend; 0: there is none.  All down = all up. */
__noinline __u32 select_backend(const struct frontend *frontend, __u64 position)
{
	struct backend *backend;
	__u32 slot, first, id;
	int step __attribute__((unused));

	if (!frontend || !frontend->size)
		return 0;
	slot = position % frontend->size;
	first = id = backend_id_at(frontend, slot);
	backend = backend_by_id(id);
	if (backend && is_up(backend))
		return id;
	repeat(step, MAX_STEPS) {
		slot = (slot + 1) % frontend->size;	/* not a reset to 0: the verifier would follow each number from there */
		id = backend_id_at(frontend, slot);
		backend = backend_by_id(id);
		if (backend && is_up(backend))
			return id;
	}
	return first;
}

/* How the programs reach the maps.  The loader creates and pins every map first, sized by its options, and hands its descriptor to
 * libbpf, so a new program meets the maps, and the contents, of the one it replaces.
 */

#define MAP(name, map_type, key_type, value_type)       \
	struct {                                        \
		__uint(type, BPF_MAP_TYPE_##map_type);  \
		__type(key, key_type);                  \
		__type(value, value_type);              \
		__uint(max_entries, 1);                 \
	} name SEC(".maps")

MAP(frontends, HASH, struct frontend_key, struct frontend);
MAP(tables, HASH, struct table_key, struct table_chunk);
MAP(backends, ARRAY, __u32, struct backend);
MAP(cluster_seed, ARRAY, __u32, __u64);	/* the agent's, from the log's id */
MAP(backend_up, HASH, struct backend_key, __u8);
MAP(backend_hosts, HASH, struct addr, __u8);
MAP(flow_index, ARRAY, __u32, struct flow_set);
MAP(flows, ARRAY, __u32, struct flow);
MAP(flow_more, ARRAY, __u32, struct flow_more);
MAP(flow_blocks, ARRAY, __u32, __u64);
MAP(next_hops, PERCPU_ARRAY, __u32, struct next_hop);
MAP(scratch, PERCPU_ARRAY, __u32, struct scratch);
MAP(interfaces, HASH, __u32, struct interface);
MAP(vips, HASH, struct addr, struct vip);
MAP(lb_nodes, ARRAY, __u32, struct lb_node);
MAP(hello_seen, ARRAY, __u32, struct hello_seen);
MAP(source_ranges, LPM_TRIE, struct source_range_key, __u8);
MAP(fragments, LRU_HASH, struct fragment_key, struct fragment);
MAP(fragment_ids, ARRAY, __u32, __u32);
MAP(affinity, LRU_HASH, struct affinity_key, struct affinity);
MAP(affinity_s, HASH, struct affinity_of, __u32);
MAP(frontend_stats, PERCPU_ARRAY, __u32, struct stats);
MAP(backend_stats, PERCPU_ARRAY, __u32, struct stats);
MAP(verdicts, PERCPU_ARRAY, __u32, __u64);
MAP(programs, PROG_ARRAY, __u32, __u32);	/* of this hook */

const volatile struct config config SEC(".rodata.config");

#define map_get(name, key) bpf_map_lookup_elem(&name, key)
#define map_put(name, key, value, flags) bpf_map_update_elem(&name, key, value, flags)

/* Programs of this hook, by number.  A jump that succeeds does not come back. */
enum { PROGRAM_MAIN, PROGRAM_ANSWER, PROGRAM_NEW, PROGRAM_FRAGMENT };

#define jump(ctx, program) bpf_tail_call(ctx, &programs, program)

/* The old value.  A full barrier on every CPU. */
#define compare_exchange(place, old, new) __sync_val_compare_and_swap(place, old, new)

static __always_inline struct scratch *scratch_of_cpu(void)
{
	__u32 zero = 0;

	return map_get(scratch, &zero);
}

/* May this CPU do once more what it does every so often, and in a burst at most so long?  at: from when on it may, of its scratch. */
static __always_inline bool may_now(__u64 *at, __u64 now, __u64 every_ns, __u64 burst_ns)
{
	__u64 free = now - burst_ns;

	if ((__s64)(*at - free) < 0)
		*at = free;
	if ((__s64)(*at - now) >= 0)
		return false;
	*at += every_ns;
	return true;
}

/* Room in the flow table.  It is a plain hash, whose insert is 240 ns cheaper than an LRU's.  So that it goes on taking flows
 * when full, with every process dead, the key of each flow is noted in a ring, and flows are thrown out from a sample of that.
 */

#define SAMPLES 4	/* pairs leave half of the ring empty */
#define BLOCK 64	/* places that a CPU takes at once */

/* In the place of one that is no more, or else round and round.  Two CPUs may get the same block, and one of two flows is then
 * not noted: it ends by time alone.
 */
static __always_inline __u32 place_of_next(struct scratch *scratch)
{
	__u32 zero = 0;
	__u64 *blocks;

	if (scratch->free)
		return scratch->places[--scratch->free % SAMPLE];
	if (scratch->next % BLOCK == 0) {
		blocks = map_get(flow_blocks, &zero);
		if (blocks) {
			scratch->next = *blocks * BLOCK;
			*blocks += 1;
		}
	}
	return scratch->next++ % FLOWS;
}

static __always_inline void note_flow(struct scratch *scratch, const struct flow_key *key)
{
	__u32 at = place_of_next(scratch);
	struct flow_key *place = map_get(flow_keys, &at);

	if (place)
		*place = *key;
}

static __always_inline void throw_out(struct scratch *scratch, __u32 at)
{
	struct flow_key *key = map_get(flow_keys, &at);
	struct flow *flow = key ? map_get(conntrack, key) : NULL;

	if (flow && flow->flags & FLOW_PAIRED)
		forget_partner(flow, key);
	if (flow)
		map_delete(conntrack, key);
	if (scratch->free < SAMPLE)
		scratch->places[scratch->free++ % SAMPLE] = at;
}

/* Of a sample those go that are not established, which they may never be; or else the one that was not seen for longest.
 * False: there was none.
 */
static __always_inline bool thin_out(struct scratch *scratch, __u32 from)
{
	__u64 longest_unseen_ns = ~0ULL;
	__u32 oldest = 0;
	bool gone = false;

	scratch->free = 0;
	for (int i = 0; i < SAMPLE; i++) {
		__u32 at = (from + i) % FLOWS;
		struct flow_key *key = map_get(flow_keys, &at);
		struct flow *flow = key ? map_get(conntrack, key) : NULL;

		if (!flow || flow->state != STATE_ESTABLISHED) {
			throw_out(scratch, at);
			gone |= !!flow;
		} else if (flow->last_seen_ns < longest_unseen_ns) {
			longest_unseen_ns = flow->last_seen_ns;
			oldest = at;
		}
	}
	if (!gone && longest_unseen_ns != ~0ULL)
		throw_out(scratch, oldest);
	return gone || longest_unseen_ns != ~0ULL;
}

/* The program that a full table leads to: then the packet begins anew. */
static __always_inline int room(CTX *ctx)
{
	struct scratch *scratch = scratch_of_cpu();

	for (int i = 0; scratch && i < SAMPLES; i++)
		if (thin_out(scratch, bpf_get_prandom_u32()))
			break;
	jump(ctx, PROGRAM_MAIN);
	count_verdict(DROP_CONNTRACK_FULL);
	return CTX_DROP;
}

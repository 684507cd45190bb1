/* Datagrams in fragments: a program of its own, so that a whole packet pays nothing for it.
 *
 * Only the first fragment has ports.  It goes the way of a whole packet, and `fragments` notes for a while what the others need: they
 * find the flow by its ports, and get other addresses alone.  Each datagram leaves with an id that no other one of ours has at the
 * time: clients behind one address, or backends behind one VIP, would else meet in the receiver's reassembly (RFC 6864, section 5.2).
 */

#define FRAGMENT_S 30		/* what Linux waits for the rest of a datagram */
#define RETRY_EVERY_NS 50000ULL	/* for each CPU: what is seen again costs as much as a packet that arrives */
#define RETRY_BURST_NS (1024 * RETRY_EVERY_NS)

/* A function of its own: the program of new flows has no stack to spare.  as: kind, and above it the bytes of the L4 header. */
__noinline int write_note(const struct flow_key *ends, __be32 id, __u32 new_id, __u32 tick, __u32 as)
{
	struct fragment value = { .id = new_id, .seen = tick, .kind = as, .header = as >> 8 };
	struct fragment_key key = { .id = id };

	if (!ends)
		return 0;
	key.src = ends->src;
	key.dst = ends->dst;
	key.proto = ends->proto;
	value.sport = ends->sport;
	value.dport = ends->dport;
	map_put(fragments, &key, &value, BPF_ANY);
	return 0;
}

static __always_inline void note(const struct packet *p, __u8 kind, __u32 new_id)
{
	write_note(p->key, p->id, new_id, p->tick, kind | (__u32)p->l4_header << 8);
}

/* NULL: its first fragment has not come, or is forgotten. */
static __always_inline struct fragment *noted(const struct packet *p)
{
	struct fragment_key key = { .src = p->key->src, .dst = p->key->dst, .id = p->id, .proto = p->key->proto };
	struct fragment *found = map_get(fragments, &key);

	return found && (__s32)(p->tick - found->seen) <= (__s32)ticks(FRAGMENT_S) ? found : NULL;
}

static __always_inline __u32 new_id(void)
{
	__u32 zero = 0, *last = map_get(fragment_ids, &zero);

	return last ? __sync_fetch_and_add(last, 1) : 0;
}

static __always_inline void write_id(CTX *ctx, struct packet *p, __u32 id)
{
	if (p->v6) {	/* no checksum covers it */
		struct fragment_header *header = p->ip + sizeof(struct ipv6hdr);

		header->id = id;
		ctx_csum_changed(ctx, p->summed, csum_word(p->id, id) + csum_word(p->id >> 16, id >> 16));
	} else {
		struct iphdr *ip = p->ip;

		ip->id = id;
		csum_mend(&ip->check, csum_word(p->id, id));
	}
}

static __always_inline bool may_retry(const struct packet *p)
{
	struct scratch *scratch = scratch_of_cpu();

	return scratch && may_now(&scratch->retried_ns, p->now, RETRY_EVERY_NS, RETRY_BURST_NS);
}

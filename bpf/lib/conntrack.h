/* The flow table: slots that hold a flow, both directions, and an index that leads to a slot from the packet of either side.  Both are
 * plain arrays, so a look costs no call, and a new flow no lock and no copy.
 *
 * Whoever writes a slot owns it by its odd sequence number.  A reader remembers the number and drops the packet if it is another by
 * the time the packet is rewritten.  Entries end lazily: one that is too old is a miss, and its slot is taken by the next flow.
 * The table of states is in docs/design.md, "The life of a flow".
 */

#define SECOND 1000000000ULL
#define OPENING_S 30
#define CLOSED_S 120	/* TIME_WAIT of the kernel's own conntrack */
#define TCP_IDLE_S 1800
#define OTHER_IDLE_S 120

/* ── a flow's life: types.h ── */

static __always_inline bool being_written(__u64 life)
{
	return life & 1;
}

static __always_inline __u8 state_of(__u64 life)
{
	return life >> 32;
}

static __always_inline __u8 flags_of(__u64 life)
{
	return life >> 40;
}

static __always_inline __u64 life_of(const struct flow *flow)
{
	return *(volatile const __u64 *)&flow->life;
}

/* Another state of the same flow.  False: lost to another CPU that changed it, or the slot, at the same moment; its packet counts. */
static __always_inline bool become(struct flow *flow, __u64 life, __u8 state, __u8 flags)
{
	__u64 next = (__u32)life | (__u64)state << 32 | (__u64)flags << 40 | ((life >> 48) + 1) << 48;

	return compare_exchange(&flow->life, life, next) == life;
}

/* Its slot is free for another from now on, though not taken. */
static __always_inline bool end(struct flow *flow, __u64 life)
{
	return become(flow, life, STATE_CLOSED, flags_of(life) | FLOW_OVER);
}

static __always_inline __u32 ticks(__u32 seconds)
{
	return seconds * config.hz;
}

static __always_inline __u32 idle_s(const struct flow *flow)
{
	return flow->idle & IDLE_MINUTES ? (__u32)(flow->idle & ~IDLE_MINUTES) * 60 : flow->idle;
}

static __always_inline __u16 idle_of(__u32 seconds)
{
	__u32 minutes = (seconds + 59) / 60;

	if (seconds < IDLE_MINUTES)
		return seconds;
	return IDLE_MINUTES | (minutes < IDLE_MINUTES ? minutes : IDLE_MINUTES - 1);
}

static __always_inline __u32 timeout(const struct flow *flow, __u64 life)
{
	__u32 idle = idle_s(flow);

	if (state_of(life) == STATE_OPENING && flow->proto == IPPROTO_TCP && idle > OPENING_S)
		idle = OPENING_S;
	if (state_of(life) == STATE_CLOSED && idle > CLOSED_S)
		idle = CLOSED_S;
	return ticks(idle);
}

/* Signed: another CPU's clock may be a tick ahead. */
static __always_inline bool expired(const struct flow *flow, __u64 life, __u32 now)
{
	return (__s32)(now - flow->seen) > (__s32)timeout(flow, life);
}

/* In this very tick: what was checked then still holds, and a busy flow pays for it once a tick. */
static __always_inline bool seen_just_now(const struct flow *flow, __u32 now)
{
	return flow->seen == now;
}

/* Ended by the agent: its backend has left, and the time that it had for that is over. */
static __always_inline bool is_cut(const struct flow *flow, __u64 life)
{
	return flow->cut == (__u32)life;
}

/* The agent's word that the backend has left: it goes on, but begins no connection any more. */
static __always_inline bool has_left(const struct flow *flow, __u64 life)
{
	return flow->cut == ((__u32)life | 1);
}

/* Is a packet of the backend an answer of this flow? */
static __always_inline bool takes_answers(const struct flow *flow, __u64 life, __u32 now)
{
	if (flags_of(life) & FLOW_OVER)
		return false;
	return seen_just_now(flow, now) || (!expired(flow, life, now) && !is_cut(flow, life));
}

/* Both sides have taken part: worth more than any flow that has not, which anybody can make. */
static __always_inline bool confirmed(__u64 life)
{
	return state_of(life) == STATE_ESTABLISHED || state_of(life) == STATE_HALF_CLOSED;
}

static __always_inline bool opens(const struct packet *p)
{
	return p->key->proto == IPPROTO_TCP && (p->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

static __always_inline bool opens_back(const struct packet *p)
{
	return p->key->proto == IPPROTO_TCP && (p->tcp_flags & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK);
}

/* fin: FLOW_FIN_IN or FLOW_FIN_OUT, the packet's direction. */
static __always_inline void track_end(struct flow *flow, __u64 life, const struct packet *p, __u8 fin)
{
	__u8 state = state_of(life), flags = flags_of(life);

	if (p->tcp_flags & TCP_RST) {	/* maybe a blind one: what follows of both sides takes it back */
		if (state != STATE_CLOSED)
			become(flow, life, STATE_RESET, flags & ~FLOW_REPLIED);
		return;
	}
	if (flags & fin)
		return;
	flags |= fin;
	if (flags & FLOW_FIN_IN && flags & FLOW_FIN_OUT)
		state = STATE_CLOSED;
	else if (state == STATE_ESTABLISHED)
		state = STATE_HALF_CLOSED;
	become(flow, life, state, flags);
}

static __always_inline void track(struct flow *flow, __u64 life, const struct packet *p, __u8 fin)
{
	if (p->tcp_flags & (TCP_RST | TCP_FIN)) {
		track_end(flow, life, p, fin);
	} else if (state_of(life) == STATE_OPENING || state_of(life) == STATE_RESET) {
		if (fin == FLOW_FIN_OUT && !(flags_of(life) & FLOW_REPLIED))
			become(flow, life, state_of(life), flags_of(life) | FLOW_REPLIED);
		else if (fin == FLOW_FIN_IN && flags_of(life) & FLOW_REPLIED && !(p->tcp_flags & TCP_SYN))
			become(flow, life, STATE_ESTABLISHED, flags_of(life));
	}
}

/* ── the index ── */

/* Multilinear in 32-bit words under keys that nobody outside knows: its upper half is strongly universal (Lemire and Kaser, 2014).  The
 * last line breaks up that ports in a row are as far from each other as any: they would share few sets.
 * The same for either way of writing an IPv4 address.
 */
static __always_inline __u64 hash_of(const struct flow_key *key, bool v6)
{
	__u64 hash = (__u64)key->proto * config.keys[9] + ((__u32)key->sport << 16 | key->dport) * config.keys[8];

	hash += key->src.w[3] * config.keys[3] + key->dst.w[3] * config.keys[7];
	if (v6) {
		hash += key->src.w[0] * config.keys[0] + key->src.w[1] * config.keys[1] + key->src.w[2] * config.keys[2];
		hash += key->dst.w[0] * config.keys[4] + key->dst.w[1] * config.keys[5] + key->dst.w[2] * config.keys[6];
	} else {
		hash += config.v4_part;
	}
	return (hash ^ hash >> 32) * 0x9e3779b97f4a7c15ULL;
}

static __always_inline __u32 tag_of(__u64 hash)
{
	return (__u32)(hash >> 8) | 1;	/* 0 is no tag */
}

static __always_inline __u32 first_set(__u64 hash)
{
	return (hash >> 40) & (config.slot_mask >> 1);
}

/* The other half of the same 128 bytes, which processors fetch together. */
static __always_inline __u32 second_set(__u32 first)
{
	return first ^ 1;
}

static __always_inline __u64 is_zero(__u32 x)
{
	__u64 none = ((__u64)x - 1) >> 63;

	asm("" : "+r"(none));
	return none;
}

/* The words of that tag, added up, without a branch: which of a set's words it is, is anybody's guess.  0: none.
 * Two flows whose tags are equal, in one set, would hide each other: `enter` does not let that be.
 */
static __always_inline __u32 word_in(const struct flow_set *set, __u32 tag)
{
	__u32 found = 0;

#pragma unroll
	for (int i = 0; i < WAYS; i++)
		found += is_zero((__u32)(set->words[i] >> 32) ^ tag) * (__u32)set->words[i];
	return found;
}

static __always_inline struct flow_set *set_at(__u32 number)
{
	return map_get(flow_index, &number);
}

static __always_inline struct flow *flow_at(__u32 slot)
{
	return map_get(flows, &slot);
}

static __always_inline bool same_ends(const struct addr *src, const struct addr *dst, const struct flow_key *key, bool v6)
{
	if (!v6)
		return src->w[3] == key->src.w[3] && dst->w[3] == key->dst.w[3] && src->w[2] == bpf_htonl(0xffff);
	return same_addr(src, &key->src) && same_addr(dst, &key->dst);
}

/* Does a packet with these ends belong to the flow, as one of the client or, `back`, as one of the backend? */
static __always_inline bool holds(const struct flow *flow, const struct flow_key *key, bool back, bool v6)
{
	if (flow->proto != key->proto)
		return false;
	if (back)
		return flow->new_dport == key->sport && flow->new_sport == key->dport && same_ends(&flow->new_dst, &flow->new_src, key, v6);
	return flow->sport == key->sport && flow->dport == key->dport && same_ends(&flow->src, &flow->dst, key, v6);
}

/* What a look found.  life: as it was before the ends were compared. */
struct found {
	struct flow *flow;	/* NULL: nothing */
	__u64 life;
	__u32 slot;
	bool back;
};

static __always_inline bool find_flow(const struct flow_key *key, __u64 hash, bool v6, struct found *found)
{
	__u32 number = first_set(hash), tag = tag_of(hash), word;
	struct flow_set *set = set_at(number);

	found->flow = NULL;
	if (!set)
		return false;
	word = word_in(set, tag);
	if (!word && set->words[0] & OVERFLOWED) {
		set = set_at(second_set(number));
		if (!set)
			return false;
		word = word_in(set, tag);
	}
	if (!word)
		return false;
	found->slot = word & SLOT;
	found->back = word & BACK;
	found->flow = flow_at(found->slot);
	if (!found->flow)
		return false;
	found->life = life_of(found->flow);
	if (!being_written(found->life) && state_of(found->life) && holds(found->flow, key, found->back, v6))
		return true;
	found->flow = NULL;
	return false;
}

/* Has another flow taken the slot since?  Then what was written into the packet may be half that one's. */
static __always_inline bool still(const struct flow *flow, __u64 life)
{
	return (__u32)life_of(flow) == (__u32)life;
}

/* ── new entries: functions that the verifier looks at by themselves, once ── */

/* The verifier wants the bound on the register that is used. */
static __always_inline __u64 bounded(__u64 at)
{
	asm("" : "+r"(at));
	return at & (WAYS - 1);
}

/* Which of a set's words is `word`, OVERFLOWED or not; WAYS: none.  Without a branch, as all that looks through a set: the verifier then
 * has one path to follow, and the processor none to guess.
 */
static __always_inline __u32 where(const struct flow_set *set, __u64 word)
{
	__u32 tag = word >> 32, low = word;
	__u64 at = WAYS;

#pragma unroll
	for (int i = 0; i < WAYS; i++)
		at -= (is_zero((__u32)(set->words[i] >> 32) ^ tag) & is_zero(((__u32)set->words[i] & ~OVERFLOWED) ^ low)) * (WAYS - i);
	return at;
}

static __always_inline __u32 first_empty(const struct flow_set *set)
{
	__u64 at = WAYS, none_yet = 1;

#pragma unroll
	for (int i = 0; i < WAYS; i++) {
		__u64 empty = is_zero(set->words[i] >> 32) & none_yet;

		at -= empty * (WAYS - i);
		none_yet -= empty;
	}
	return at;
}

static __always_inline __u32 words_of(const struct flow_set *set, __u32 tag)
{
	__u64 count = 0;

#pragma unroll
	for (int i = 0; i < WAYS; i++)
		count += is_zero((__u32)(set->words[i] >> 32) ^ tag);
	return count;
}

/* Takes a word out, unless it is another's by now. */
static __always_inline bool remove_word(__u32 number, __u64 word)
{
	struct flow_set *set = set_at(number);
	__u64 *place;
	__u32 at;

	if (!set)
		return false;
	at = where(set, word);
	if (at >= WAYS)
		return false;
	place = &set->words[bounded(at)];
	if (compare_exchange(place, word, 0) != word)
		compare_exchange(place, word | OVERFLOWED, OVERFLOWED);
	return true;
}

static __always_inline bool has_guests(const struct flow_set *set)
{
	__u32 all = 0;

#pragma unroll
	for (int i = 0; i < WAYS; i++)
		all |= *(volatile const __u32 *)&set->words[i];
	return all & GUEST;
}

/* The value is used, as only then clang makes it a full barrier. */
static __always_inline void note_overflow(struct flow_set *set)
{
	__u64 before = __sync_fetch_and_or(&set->words[0], OVERFLOWED);

	asm volatile("" : : "r"(before));
}

/* A guest has left `second`.  One that comes at this moment is seen here, or sets the flag again once it has come. */
static __always_inline void note_no_overflow(__u32 number)
{
	struct flow_set *first = set_at(number), *second = set_at(second_set(number));
	__u64 before;

	if (!first || !second || has_guests(second))
		return;
	before = __sync_fetch_and_and(&first->words[0], ~(__u64)OVERFLOWED);
	asm volatile("" : : "r"(before));
	if (has_guests(second))
		note_overflow(first);
}

static __always_inline void remove_key(__u64 hash, __u32 back, __u32 slot)
{
	__u64 word = (__u64)tag_of(hash) << 32 | USED | back | slot;
	__u32 number = first_set(hash);

	if (!remove_word(number, word) && remove_word(second_set(number), word | GUEST))
		note_no_overflow(number);
}

static __always_inline void own_key(struct flow_key *key, const struct flow *flow)
{
	*key = (struct flow_key){ .src = flow->src, .dst = flow->dst, .proto = flow->proto };
	key->sport = flow->sport;
	key->dport = flow->dport;
}

/* The ends of the answer to a flow's packet as it leaves. */
static __always_inline void back_key(struct flow_key *key, const struct flow *flow)
{
	*key = (struct flow_key){ .src = flow->new_dst, .dst = flow->new_src, .proto = flow->proto };
	key->sport = flow->new_dport;
	key->dport = flow->new_sport;
}

/* Of a slot that is ours: no packet finds it from now on. */
__noinline int forget(const struct flow *flow, __u32 slot)
{
	struct flow_key key;

	if (!flow)
		return 0;
	own_key(&key, flow);
	remove_key(hash_of(&key, true), 0, slot);
	back_key(&key, flow);
	remove_key(hash_of(&key, true), BACK, slot);
	return 0;
}

enum entered { ENTERED, TAKEN, NO_PLACE };

/* Is there another word with the tag of `mine`?  One that leads nowhere is taken out.  alone: how many there are if not. */
static __always_inline bool another(struct flow_set *set, __u64 mine, __u32 alone)
{
	bool found = false;

	if (words_of(set, mine >> 32) <= alone)
		return false;
#pragma nounroll
	for (__u64 i = 0; i < WAYS; i++) {
		__u64 *place = &set->words[bounded(i)], held = *(volatile __u64 *)place;
		struct flow *flow;
		__u64 life;

		if (held >> 32 != mine >> 32 || (held & ~(__u64)(OVERFLOWED | GUEST)) == mine)
			continue;
		flow = flow_at(held & SLOT);
		if (!flow)
			continue;
		life = life_of(flow);
		if (being_written(life) || state_of(life))
			found = true;	/* the same key, or, once in 2^31, another with the same tag, which would hide this */
		else
			compare_exchange(place, held, held & OVERFLOWED);
	}
	return found;
}

/* Leads from the key of this hash to the slot, if no other flow is led to from there.  The slot is ours and still being written.
 * Two CPUs that enter the same key at once see each other, or the later sees the earlier: whoever sees one gives way.  Both sets are
 * looked at: one CPU may find room in the first where the other did not.
 */
__noinline int enter(__u64 hash, __u32 back, __u32 slot)
{
	__u32 tag = tag_of(hash), number = first_set(hash);
	__u64 word = (__u64)tag << 32 | USED | back | slot, *place, held;
	struct flow_set *first = set_at(number), *set = first, *second = set_at(second_set(number));
	__u32 at, guest = 0;

	if (!set || !second)
		return NO_PLACE;
	if (another(set, word, 0) || (set->words[0] & OVERFLOWED && another(second, word, 0)))
		return TAKEN;
	at = first_empty(set);
	if (at >= WAYS) {
		set = second;
		at = first_empty(set);
		if (at >= WAYS)
			return NO_PLACE;
		guest = GUEST;
		note_overflow(first);
	}
	place = &set->words[bounded(at)];
	held = *(volatile __u64 *)place;
	if (held >> 32 || compare_exchange(place, held, held | word | guest) != held)
		return TAKEN;	/* another CPU was here at this very moment */
	if (guest)
		note_overflow(first);
	if (!another(first, word, set == first) && !(first->words[0] & OVERFLOWED && another(second, word, set == second)))
		return ENTERED;
	remove_key(hash, back, slot);
	return TAKEN;
}

#define NO_SLOT (~0u)
#define LOOKS 24
#define IN_TURN 12	/* so many of them: others at random are mostly younger, and may be about to be answered */
#define UNSEEN_S 30	/* a flow that goes on is not thrown out for one that may never be */
#define BLOCK 64	/* slots that a CPU takes at once */

static __always_inline __u32 next_in_turn(struct scratch *scratch)
{
	__u32 zero = 0;
	__u64 *blocks;

	if (scratch->next % BLOCK == 0) {
		blocks = map_get(flow_blocks, &zero);
		if (blocks)
			scratch->next = __sync_fetch_and_add(blocks, 1) * BLOCK;
	}
	return scratch->next++ & config.slot_mask;
}

/* Whoever takes the slot ends nobody's flow that goes on. */
static __always_inline bool may_take(const struct flow *flow, __u64 life, __u32 now)
{
	return !being_written(life) && (!confirmed(life) || is_cut(flow, life) || expired(flow, life, now));
}

/* A slot for a new flow, which is ours from now on: the next in turn that is free, over, or not confirmed; where the next ones are all
 * confirmed, of some at random the one unseen for longest, a confirmed one only if that is long.  Slots are passed in turn, so a flow
 * that is not confirmed yet has the time of a whole round to become so.  NO_SLOT: all are flows that go on; or another CPU was faster.
 */
__noinline __u32 claim(__u32 now)
{
	struct scratch *scratch = scratch_of_cpu();
	__u32 best, longest = ticks(UNSEEN_S);
	struct flow *flow;
	__u64 life;

	if (!scratch)
		return NO_SLOT;
	best = next_in_turn(scratch);
	flow = flow_at(best);
	if (!flow)
		return NO_SLOT;
	life = life_of(flow);
	if (!may_take(flow, life, now)) {
		best = NO_SLOT;
#pragma nounroll
		for (__u64 i = 0; i < LOOKS; i++) {	/* not `repeat`: the verifier of 6.8 sees no end of it */
			__u32 at = i < IN_TURN ? next_in_turn(scratch) : bpf_get_prandom_u32() & config.slot_mask;
			__u32 rank;
			__u64 here;

			if (i == IN_TURN)	/* past the rest of the block: flows that began together stand together */
				scratch->next = (scratch->next + BLOCK - 1) & ~(__u64)(BLOCK - 1);
			flow = flow_at(at);
			if (!flow)
				break;
			here = life_of(flow);
			rank = now - flow->seen;
			if (may_take(flow, here, now)) {
				if (i < IN_TURN || !state_of(here)) {
					best = at;
					life = here;
					break;
				}
				rank += 1 << 30;	/* before any that is confirmed, however old */
			}
			if (!being_written(here) && (__s32)(rank - longest) >= 0) {
				longest = rank;
				best = at;
				life = here;
			}
		}
	}
	flow = flow_at(best);
	if (!flow || compare_exchange(&flow->life, life, life | 1) != life)
		return NO_SLOT;
	if (state_of(life))
		forget(flow, best);
	return best;
}

/* The slot is a flow's from now on, or, STATE_NONE, nobody's.  state: with flags in its upper byte. */
static __always_inline void publish(struct flow *flow, __u16 state)
{
	__u32 seq = (__u32)flow->life + 1;	/* it was odd */

	__sync_lock_test_and_set(&flow->life, (__u64)seq | (__u64)state << 32);
}

/* Ends one flow that the sets of this hash lead to, if there is one that may be taken. */
__noinline int make_place(__u64 hash, __u32 now)
{
	struct flow_set *first = set_at(first_set(hash)), *second = set_at(second_set(first_set(hash)));

	if (!first || !second)
		return false;
#pragma nounroll
	for (__u64 i = 0; i < 2 * WAYS; i++) {
		struct flow_set *set = i < WAYS ? first : second;
		__u64 word = *(volatile __u64 *)&set->words[bounded(i)], life;
		__u32 slot = word & SLOT;
		struct flow *flow = flow_at(slot);

		if (!flow || !(word & USED))
			continue;
		life = life_of(flow);
		if (may_take(flow, life, now) && compare_exchange(&flow->life, life, life | 1) == life) {
			forget(flow, slot);
			publish(flow, STATE_NONE);
			return true;
		}
	}
	return false;
}

/* UDP has no end: a flow moves once its backend is down, or gone from the plan. */
static __always_inline bool backend_lost(const struct flow *flow)
{
	struct backend *backend = backend_by_id(flow->backend_id);

	return !backend || backend->port != flow->new_dport ||
	       !same_addr((struct addr *)backend->addr, &flow->new_dst) || !is_up(backend);
}

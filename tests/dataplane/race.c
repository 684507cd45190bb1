/* Drives the packet path from inside the kernel: writes a packet, runs the program under test on it, and checks what it left.
 *
 * A system call for each packet would leave two CPUs hardly ever inside the program at the same time.  Here one call runs thousands,
 * and the tail call returns because a function of its own makes it.  Which packet is next follows from a counter that all CPUs share,
 * so that the same flow starts on several at once.  V6, XDP and UDP may be defined.
 */

#include "lib/headers.h"
#include "lib/types.h"
#include "lib/maps.h"

#ifdef XDP
#define CTX struct xdp_md
#define IS_OUT(action) ((action) == XDP_TX || (action) == XDP_REDIRECT)
#define IS_PASS(action) ((action) == XDP_PASS)
#else
#define CTX struct __sk_buff
#define IS_OUT(action) ((action) == TC_ACT_REDIRECT)
#define IS_PASS(action) ((action) == -1)
#endif
#ifdef V6
#define L4_AT 54
#define ADDRESSES_AT 22
#define ADDRESS 16
#else
#define L4_AT 34
#define ADDRESSES_AT 26
#define ADDRESS 4
#endif
#ifdef UDP
#define CHECK_AT (L4_AT + 6)
#define PROTOCOL IPPROTO_UDP
#else
#define CHECK_AT (L4_AT + 16)
#define PROTOCOL IPPROTO_TCP
#endif
#define LENGTH 112
#define L4_LENGTH (LENGTH - L4_AT)
#define WORD(frame, at) (*(__u16 *)((void *)(frame) + (at)))

/* test_races.py writes it.  The shares are of 256. */
struct order {
	__u64 counter;
	__u32 templates;
	__u32 ports;
	__u32 shift;		/* packets of a key in a row are 2^shift; 32: keys are random */
	__u32 replies;
	__u32 syns;
	__u32 fins;
	__u32 resets;
	__u32 source_kept;
	__u32 backends;
	__u32 pad;
	__u8 backend[128];
};

struct frame {
	__u8 byte[LENGTH];
};

struct outcome {
	__u64 random;
	__u64 sent;
	__u64 left;
	__u64 replied;
	__u64 dropped;
	__u64 passed;
	__u64 bad_sum;
	__u64 illegal;
	__u64 misdirected;
	__u64 is_known;		/* `last` holds one */
	struct frame last;	/* as it left to a backend: what a reply answers */
	struct frame bad;
};

MAP(race_order, ARRAY, __u32, struct order);
MAP(race_templates, ARRAY, __u32, struct frame);
MAP(race_outcomes, PERCPU_ARRAY, __u32, struct outcome);

static __noinline int run(CTX *ctx)
{
	volatile int missed = 100;

	bpf_tail_call(ctx, &programs, 0);
	return missed;
}

static __always_inline __u32 dice(struct outcome *outcome)
{
	__u64 x = outcome->random;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	outcome->random = x;
	return x >> 20;
}

static __always_inline void set_word(void *frame, __u32 at, __u16 value)
{
	__u32 sum = (__u16)~WORD(frame, CHECK_AT) + (__u16)~WORD(frame, at) + value;

	WORD(frame, at) = value;
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	WORD(frame, CHECK_AT) = ~sum;
}

static __always_inline void set_flags(void *frame, __u8 flags)
{
#ifndef UDP
	set_word(frame, L4_AT + 12, bpf_htons(0x5000 | flags));
#endif
}

static __always_inline void copy(void *to, const void *from, __u32 length)
{
	for (__u32 i = 0; i < length / 2; i++)
		((__u16 *)to)[i] = ((const __u16 *)from)[i];
}

static __always_inline bool same(const void *a, const void *b, __u32 length)
{
	__u16 other = 0;

	for (__u32 i = 0; i < length / 2; i++)
		other |= ((const __u16 *)a)[i] ^ ((const __u16 *)b)[i];
	return !other;
}

/* The answer to the packet that left last: its ends turned round, which changes no checksum. */
static __always_inline void turn_round(void *frame, const void *last)
{
	copy(frame + ADDRESSES_AT, last + ADDRESSES_AT + ADDRESS, ADDRESS);
	copy(frame + ADDRESSES_AT + ADDRESS, last + ADDRESSES_AT, ADDRESS);
	WORD(frame, L4_AT) = WORD(last, L4_AT + 2);
	WORD(frame, L4_AT + 2) = WORD(last, L4_AT);
}

static __always_inline bool sums_are_right(void *frame)
{
	/* Before Linux 6.13 in whole words only: the last half is added by hand. */
	__s64 sum = bpf_csum_diff(0, 0, frame + ADDRESSES_AT, LENGTH - 2 - ADDRESSES_AT, bpf_htons(PROTOCOL) + bpf_htons(L4_LENGTH));
	__u64 all = (__u64)(__u32)sum + WORD(frame, LENGTH - 2);

	all = (all & 0xffff) + (all >> 16);
	all = (all & 0xffff) + (all >> 16);
	if (all != 0xffff)
		return false;
#ifndef V6
	all = (__u32)bpf_csum_diff(0, 0, frame + ETH_HLEN, 20, 0);
	all = (all & 0xffff) + (all >> 16);
	all = (all & 0xffff) + (all >> 16);
	return all == 0xffff;
#endif
	return true;
}

/* The first 40 bytes of payload are the ends of the client's packet: who it is from, and to whom. */
#define IDENTITY_AT (L4_AT + 20)

static __always_inline bool legal(const struct order *order, void *frame)
{
	bool known = false;

	for (__u32 i = 0; i < 8; i++)
		known |= i < order->backends && same(frame + ADDRESSES_AT + ADDRESS, order->backend + i * ADDRESS, ADDRESS);
	if (!known || WORD(frame, L4_AT + 2) != bpf_htons(8080))
		return false;
	return same(frame + ADDRESSES_AT, frame + IDENTITY_AT + (order->source_kept ? 0 : ADDRESS), ADDRESS);
}

static __always_inline bool to_its_client(void *frame)
{
	return same(frame + ADDRESSES_AT, frame + IDENTITY_AT + ADDRESS, ADDRESS) &&
	       same(frame + ADDRESSES_AT + ADDRESS, frame + IDENTITY_AT, ADDRESS) &&
	       WORD(frame, L4_AT + 2) == WORD(frame, IDENTITY_AT + 2 * ADDRESS);
}

static __always_inline void judge(struct outcome *outcome, const struct order *order, void *frame, bool reply, int action)
{
	__u64 *wrong = NULL;

	if (!IS_OUT(action)) {
		outcome->dropped += !IS_PASS(action);
		outcome->passed += IS_PASS(action);
		return;
	}
	outcome->left += !reply;
	outcome->replied += reply;
	if (!sums_are_right(frame))
		wrong = &outcome->bad_sum;
	else if (reply && !to_its_client(frame))
		wrong = &outcome->misdirected;
	else if (!reply && !legal(order, frame))
		wrong = &outcome->illegal;
	if (wrong) {
		++*wrong;
		copy(&outcome->bad, frame, LENGTH);
	}
	if (!reply) {
		copy(&outcome->last, frame, LENGTH);
		outcome->is_known = 1;
	}
}

static __always_inline __u32 next_key(struct order *order, struct outcome *outcome)
{
	return order->shift < 32 ? __sync_fetch_and_add(&order->counter, 1) >> order->shift : dice(outcome);
}

SEC("tc")
int weir_race(CTX *ctx)
{
	void *frame = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u32 zero = 0, key, at, chance;
	struct outcome *outcome = bpf_map_lookup_elem(&race_outcomes, &zero);
	struct order *order = bpf_map_lookup_elem(&race_order, &zero);
	struct frame *template;
	bool reply;
	int action;

	if (!outcome || !order || frame + LENGTH > end)
		return 0;
	key = next_key(order, outcome);
	reply = outcome->is_known && (dice(outcome) & 255) < order->replies;
	at = key % order->templates;
	template = bpf_map_lookup_elem(&race_templates, &at);
	if (!template)
		return 0;
	chance = dice(outcome) & 255;
	if (reply) {
		copy(frame, &outcome->last, LENGTH);
		copy(frame, template, ETH_HLEN);
		turn_round(frame, &outcome->last);
		set_flags(frame, chance < order->resets ? 4 : chance < order->resets + order->fins ? 17 : 16);
	} else {
		copy(frame, template, LENGTH);
		key = 1024 + key / order->templates % order->ports;
		set_word(frame, L4_AT, bpf_htons(key));
		set_word(frame, IDENTITY_AT + 2 * ADDRESS, bpf_htons(key));
		set_flags(frame, chance < order->resets ? 4 : chance < order->resets + order->fins ? 17 :
			  chance < order->resets + order->fins + order->syns ? 2 : 16);
	}
	outcome->sent++;
	action = run(ctx);
	frame = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	if (frame + LENGTH > end)
		return 0;
	judge(outcome, order, frame, reply, action);
	return 0;
}

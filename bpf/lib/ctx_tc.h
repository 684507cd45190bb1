/* The vocabulary of the hooks, for tc (tcx ingress). */

#define CTX struct __sk_buff
#define CTX_HOOK HOOK_TC
#define CTX_PASS (-1)		/* TCX_NEXT: the next program, then the stack */
#define CTX_DROP TC_ACT_SHOT
#define HEADERS 134		/* Ethernet, the longest IPv4 header, the longest TCP header */

static __always_inline void *ctx_data(CTX *ctx)
{
	return (void *)(long)ctx->data;
}

static __always_inline void *ctx_end(CTX *ctx)
{
	return (void *)(long)ctx->data_end;
}

static __always_inline __u32 ctx_len(CTX *ctx)
{
	return ctx->len;
}

static __always_inline __u32 ctx_packets(CTX *ctx)
{
	return ctx->gso_segs ?: 1;
}

/* Payload of each segment the device will cut; 0: it will cut none. */
static __always_inline __u32 ctx_segment(CTX *ctx)
{
	return ctx->gso_size;
}

static __always_inline __u32 ctx_ifindex(CTX *ctx)
{
	return ctx->ifindex;
}

static __always_inline bool ctx_for_us(CTX *ctx)
{
	return ctx->pkt_type == PACKET_HOST;
}

static __always_inline bool ctx_has_our_mac(CTX *ctx)
{
	(void)ctx;
	return true;	/* `ctx_for_us` knows */
}

/* A frame to another machine, seen in promiscuous mode. */
static __always_inline bool ctx_for_another(CTX *ctx)
{
	return ctx->pkt_type == PACKET_OTHERHOST;
}

/* Tagged frames are the business of the VLAN's own interface.  VLAN 0 is none: the tag is there for its priority (802.1Q, 9.6). */
static __always_inline bool ctx_tagged(CTX *ctx)
{
	return ctx->vlan_present && ctx->vlan_tci & 0xfff;
}

static __always_inline bool ctx_untag(CTX *ctx)
{
	(void)ctx;
	return true;	/* the tag is beside the frame, not in it */
}

/* Headers may lie in fragments of the skb. */
static __always_inline void ctx_make_linear(CTX *ctx)
{
	__u32 want = ctx->len < HEADERS ? ctx->len : HEADERS;

	if (ctx_data(ctx) + want > ctx_end(ctx))
		bpf_skb_pull_data(ctx, want);
}

static __always_inline long ctx_resize(CTX *ctx, __u32 len)
{
	return bpf_skb_change_tail(ctx, len, 0);
}

static __always_inline long ctx_read(CTX *ctx, __u32 at, void *to, __u32 len)
{
	return bpf_skb_load_bytes(ctx, at, to, len);
}

static __always_inline long ctx_write(CTX *ctx, __u32 at, void *from, __u32 len)
{
	return bpf_skb_store_bytes(ctx, at, from, len, BPF_F_RECOMPUTE_CSUM);
}

/* skb->ip_summed: what the device did about the L4 checksum, or is to do. */
struct sk_buff {
	__u8 ip_summed : 2;
} __attribute__((preserve_access_index));

extern void *bpf_cast_to_kern_ctx(void *) __ksym;

enum { SUMMED_NONE, SUMMED_UNNECESSARY, SUMMED_COMPLETE, SUMMED_PARTIAL };

static __always_inline __u8 ctx_summed(CTX *ctx)
{
	struct sk_buff *skb = bpf_cast_to_kern_ctx(ctx);

	return BPF_CORE_READ_BITFIELD(skb, ip_summed);
}

/* Bytes changed that no checksum of the packet makes up for: what a NIC summed over the whole packet must follow. */
static __always_inline void ctx_csum_changed(CTX *ctx, __u8 summed, __u32 difference)
{
	if (summed == SUMMED_COMPLETE)
		bpf_csum_update(ctx, csum_fold16(difference));
}

/* Is the field only the pseudo header's sum, from which the device goes on?  Not if that is an inner header's. */
static __always_inline bool ctx_partly_summed(__u8 summed, __u16 field, __u16 pseudo)
{
	return summed == SUMMED_PARTIAL && !csum_differ(field, pseudo);
}

#define CTX_ROUNDS 16
#define ROUND 0x5e00	/* in tc_index, which nothing else uses at ingress */

/* How often the packet has come to this hook before: `ctx_again`. */
static __always_inline __u32 ctx_rounds(CTX *ctx)
{
	__u32 index = ctx->tc_index;

	if ((index & 0xff00) != ROUND)
		return 0;
	ctx->tc_index = 0;
	return index & 0xff;
}

/* To the end of this CPU's queue of received packets, and so here once more. */
static __always_inline int ctx_again(CTX *ctx, __u32 rounds)
{
	ctx->tc_index = ROUND | rounds;
	return bpf_redirect(ctx->ifindex, BPF_F_INGRESS);
}

static __always_inline int ctx_send(CTX *ctx, __u32 ifindex)
{
	(void)ctx;
	return bpf_redirect(ifindex, 0);
}

/* Back out of the interface it came in by. */
static __always_inline int ctx_reply(CTX *ctx)
{
	return bpf_redirect(ctx->ifindex, 0);
}

/* Can a packet whose next hop is known be sent through the neighbour's state machine nevertheless? */
static __always_inline bool ctx_probes(void)
{
	return true;
}

/* Let the kernel resolve the neighbour, and keep its state machine going with every process dead. */
static __always_inline int ctx_send_neighbour(CTX *ctx, const struct next_hop *hop)
{
	struct bpf_redir_neigh to = {};

	(void)ctx;
	if (hop->v6) {
		to.nh_family = AF_INET6;
		__builtin_memcpy(to.ipv6_nh, &hop->gateway, sizeof(to.ipv6_nh));
	} else {
		to.nh_family = AF_INET;
		to.ipv4_nh = hop->gateway.w[3];
	}
	return bpf_redirect_neigh(hop->ifindex, &to, sizeof(to), 0);
}

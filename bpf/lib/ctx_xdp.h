/* The vocabulary of the hooks, for XDP.  Checksums are mended in place: there is no offload to leave them to. */

#define CTX struct xdp_md
#define CTX_HOOK HOOK_XDP
#define CTX_PASS XDP_PASS
#define CTX_DROP XDP_DROP

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
	return ctx->data_end - ctx->data;
}

static __always_inline __u32 ctx_packets(CTX *ctx)
{
	(void)ctx;
	return 1;
}

static __always_inline __u32 ctx_segment(CTX *ctx)
{
	(void)ctx;
	return 0;
}

static __always_inline __u32 ctx_ifindex(CTX *ctx)
{
	return ctx->ingress_ifindex;
}

/* Broadcast and multicast frames are not; whether a unicast frame is, is asked of what begins a flow: `ctx_has_our_mac`. */
static __always_inline bool ctx_for_us(CTX *ctx)
{
	__u8 *frame = ctx_data(ctx);

	return (void *)(frame + 1) <= ctx_end(ctx) && !(frame[0] & 1);
}

/* Not so in promiscuous mode, or where a switch floods.  Loopback has no MAC. */
static __always_inline bool ctx_has_our_mac(CTX *ctx)
{
	__u32 ifindex = ctx->ingress_ifindex;
	struct interface *interface = map_get(interfaces, &ifindex);
	__u16 *to = ctx_data(ctx), *own;

	if (!interface || (void *)(to + 3) > ctx_end(ctx))
		return true;
	own = (void *)interface->mac;
	return (to[0] == own[0] && to[1] == own[1] && to[2] == own[2]) || !(to[0] | to[1] | to[2]);
}

static __always_inline bool ctx_for_another(CTX *ctx)
{
	(void)ctx;
	return false;
}

static __always_inline bool ctx_tagged(CTX *ctx)
{
	(void)ctx;
	return false;	/* the tag is in the frame: no IP packet to us */
}

/* Takes the tag of VLAN 0 away, which is no VLAN: the tag is there for its priority (802.1Q, 9.6). */
static __always_inline bool ctx_untag(CTX *ctx)
{
	__u16 *frame = ctx_data(ctx);
	__u16 macs[6];

	if ((void *)(frame + 9) > ctx_end(ctx) || frame[6] != bpf_htons(ETH_P_8021Q) || frame[7] & bpf_htons(0xfff))
		return true;
	__builtin_memcpy(macs, frame, sizeof(macs));
	if (bpf_xdp_adjust_head(ctx, 4))
		return false;
	frame = ctx_data(ctx);
	if ((void *)(frame + 6) > ctx_end(ctx))
		return false;
	__builtin_memcpy(frame, macs, sizeof(macs));
	return true;
}

static __always_inline void ctx_make_linear(CTX *ctx)
{
	(void)ctx;
}

static __always_inline long ctx_resize(CTX *ctx, __u32 len)
{
	__u64 now = ctx_len(ctx);

	asm volatile("" : "+r"(now));	/* or the terms change places, and `data_end` may not be subtracted from */
	return bpf_xdp_adjust_tail(ctx, (int)len - (int)now);
}

static __always_inline long ctx_read(CTX *ctx, __u32 at, void *to, __u32 len)
{
	return bpf_xdp_load_bytes(ctx, at, to, len);
}

static __always_inline long ctx_write(CTX *ctx, __u32 at, void *from, __u32 len)
{
	return bpf_xdp_store_bytes(ctx, at, from, len);
}

static __always_inline __u8 ctx_summed(CTX *ctx)
{
	(void)ctx;
	return 0;
}

static __always_inline void ctx_csum_changed(CTX *ctx, __u8 summed, __u32 difference)
{
	(void)ctx;
	(void)summed;
	(void)difference;
}

static __always_inline bool ctx_partly_summed(__u8 summed, __u16 field, __u16 pseudo)
{
	(void)summed;
	(void)field;
	(void)pseudo;
	return false;
}

#define CTX_ROUNDS 0

/* There is no queue to put a frame into once more. */
static __always_inline __u32 ctx_rounds(CTX *ctx)
{
	(void)ctx;
	return 0;
}

static __always_inline int ctx_again(CTX *ctx, __u32 rounds)
{
	(void)ctx;
	(void)rounds;
	return CTX_DROP;
}

static __always_inline int ctx_send(CTX *ctx, __u32 ifindex)
{
	return ifindex == ctx->ingress_ifindex ? XDP_TX : bpf_redirect(ifindex, 0);
}

/* Back out of the interface it came in by. */
static __always_inline int ctx_reply(CTX *ctx)
{
	(void)ctx;
	return XDP_TX;
}

/* Only by way of the stack and its filters, which may drop it: not for the sake of a probe. */
static __always_inline bool ctx_probes(void)
{
	return false;
}

/* The stack resolves the neighbour and forwards this one packet, rewritten as it is. */
static __always_inline int ctx_send_neighbour(CTX *ctx, const struct next_hop *hop)
{
	(void)ctx;
	(void)hop;
	return XDP_PASS;
}

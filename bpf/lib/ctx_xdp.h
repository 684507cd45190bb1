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

/* The NIC filters by MAC; a tag is still in the frame here, so a tagged one is no IP packet to us. */
static __always_inline bool ctx_for_us(CTX *ctx)
{
	(void)ctx;
	return true;
}

static __always_inline bool ctx_for_another(CTX *ctx)
{
	(void)ctx;
	return false;
}

static __always_inline bool ctx_tagged(CTX *ctx)
{
	(void)ctx;
	return false;
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

/* Newer than bcc's declarations. */
static long (*xdp_load_bytes)(CTX *ctx, __u32 at, void *to, __u32 len) = (void *)BPF_FUNC_xdp_load_bytes;
static long (*xdp_store_bytes)(CTX *ctx, __u32 at, const void *from, __u32 len) = (void *)BPF_FUNC_xdp_store_bytes;

static __always_inline long ctx_read(CTX *ctx, __u32 at, void *to, __u32 len)
{
	return xdp_load_bytes(ctx, at, to, len);
}

static __always_inline long ctx_write(CTX *ctx, __u32 at, void *from, __u32 len)
{
	return xdp_store_bytes(ctx, at, from, len);
}

static __always_inline bool ctx_partly_summed(__u16 field, __u16 pseudo)
{
	(void)field;
	(void)pseudo;
	return false;
}

static __always_inline void ctx_csum_changed(CTX *ctx, __u32 difference)
{
	(void)ctx;
	(void)difference;
}

/* Mend the L4 checksum after a change of addresses and of ports, each given as a difference. */
static __always_inline long ctx_mend_l4(CTX *ctx, __u32 at, __sum16 *field, __u32 addrs, __u32 ports, __u16 pseudo, bool v6,
					bool udp)
{
	(void)ctx;
	(void)pseudo;
	(void)at;
	(void)v6;
	if (udp && !*field)
		return 0;
	csum_mend(field, csum_fold32((__u64)addrs + ports));
	if (udp && !*field)
		*field = 0xffff;
	return 0;
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

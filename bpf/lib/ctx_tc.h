/* The vocabulary of the hooks, for tc (tcx ingress). */

#define CTX struct __sk_buff
#define CTX_HOOK HOOK_TC
#define CTX_PASS (-1)		/* TCX_NEXT: the next program, then the stack */
#define CTX_DROP TC_ACT_SHOT
#define IPV6_CSUM (1 << 7)	/* BPF_F_IPV6, newer than the headers */
#define HEADERS 134		/* Ethernet, the longest IPv4 header, the longest TCP header */

/* bcc 0.26 declares three arguments, the kernel takes four. */
static long (*redirect_neigh)(__u32 ifindex, struct bpf_redir_neigh *to, int size, __u64 flags) =
	(void *)BPF_FUNC_redirect_neigh;

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

/* A frame to another machine, seen in promiscuous mode. */
static __always_inline bool ctx_for_another(CTX *ctx)
{
	return ctx->pkt_type == PACKET_OTHERHOST;
}

/* Tagged frames are the business of the VLAN's own interface. */
static __always_inline bool ctx_tagged(CTX *ctx)
{
	return ctx->vlan_present;
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

/* Will the device sum this packet?  Then its field holds the pseudo header's sum. */
static __always_inline bool ctx_partly_summed(__u16 field, __u16 pseudo)
{
	return !csum_differ(field, pseudo);
}

/* Bytes changed that no checksum of the packet makes up for: what a NIC summed over the whole packet must follow. */
static __always_inline void ctx_csum_changed(CTX *ctx, __u32 difference)
{
	bpf_csum_update(ctx, csum_fold16(difference));
}

/* Mend the L4 checksum at `at` after a change of addresses and of ports, each given as a difference.  pseudo: the sum over
 * the pseudo header as it was.
 *
 * A packet that is still to be summed by the device (CHECKSUM_PARTIAL) holds just that sum.  Only the helpers can tell, and
 * each call costs 30 ns; so they are asked only where the field looks so, which is right in either case.
 * Packet pointers die here.
 */
static __always_inline long ctx_mend_l4(CTX *ctx, __u32 at, __sum16 *field, __u32 addrs, __u32 ports, __u16 pseudo, bool v6,
					bool udp)
{
	__u64 flags = udp ? BPF_F_MARK_MANGLED_0 : 0;
	__u16 old = *field;
	long failed = 0;

	if (!ctx->gso_size && csum_differ(old, pseudo)) {
		if (udp && !old)
			return 0;
		csum_mend(field, csum_fold32((__u64)addrs + ports));
		if (udp && !*field)
			*field = 0xffff;
		if (!v6)	/* in IPv6 this makes up for the addresses, in IPv4 the header's checksum has */
			ctx_csum_changed(ctx, csum_word(old, *field));
		return 0;
	}
	/* BPF_F_IPV6 keeps CHECKSUM_COMPLETE true; kernels before 6.16 refuse it, before they change anything. */
	if (addrs && v6)
		failed = bpf_l4_csum_replace(ctx, at, 0, addrs, flags | BPF_F_PSEUDO_HDR | IPV6_CSUM);
	if (addrs && (!v6 || failed))
		failed = bpf_l4_csum_replace(ctx, at, 0, addrs, flags | BPF_F_PSEUDO_HDR);
	if (ports)
		failed |= bpf_l4_csum_replace(ctx, at, 0, ports, flags);
	return failed;
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
	return redirect_neigh(hop->ifindex, &to, sizeof(to), 0);
}

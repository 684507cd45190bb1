/* Where a packet leaves.  The kernel's answer is kept per CPU for a second; the packet that finds it stale goes out by the
 * kernel's neighbour code, so that a changed MAC is noticed with every process dead.
 */

#define NEXT_HOP_S 1

static __always_inline __u64 mix(__u64 hash, __u64 word)
{
	hash = (hash ^ word) * 0x9e3779b97f4a7c15ULL;
	return hash ^ (hash >> 32);
}

/* XDP in a driver can hand a frame to another such driver only, and none to an overlay.  From tc an overlay takes it as any device
 * does, and must be given it so: the stack takes a source of our own, as source NAT writes it, for a martian.
 */
static __always_inline bool through_stack(CTX *ctx, __u32 ifindex)
{
	__u32 from = ctx_ifindex(ctx);
	struct interface *egress, *ingress;

	if (CTX_HOOK == HOOK_TC)
		return false;
	egress = map_get(interfaces, &ifindex);
	if (egress && egress->flags & INTERFACE_STACK)
		return true;
	if (from == ifindex || (egress && egress->flags & INTERFACE_NATIVE))
		return false;
	ingress = map_get(interfaces, &from);
	return !ingress || !(ingress->flags & INTERFACE_GENERIC);
}

/* Ask the kernel.  NULL: the packet cannot be sent, the verdict says why. */
static __always_inline struct next_hop *ask_fib(CTX *ctx, struct packet *p, struct next_hop *hop, const struct addr *from,
						const struct addr *to)
{
	/* A length of 1 is never too big, and asks for the MTU of the route, not of the device. */
	struct bpf_fib_lookup fib = { .ifindex = ctx_ifindex(ctx), .tot_len = 1 };
	long code;

	if (p->v6) {
		fib.family = AF_INET6;
		__builtin_memcpy(fib.ipv6_src, from, sizeof(*from));
		__builtin_memcpy(fib.ipv6_dst, to, sizeof(*to));
	} else {
		fib.family = AF_INET;
		fib.ipv4_src = from->w[3];
		fib.ipv4_dst = to->w[3];
	}
	code = bpf_fib_lookup(ctx, &fib, sizeof(fib), 0);
	if (code == BPF_FIB_LKUP_RET_FWD_DISABLED) {
		p->verdict = DROP_FORWARDING_OFF;
		return NULL;
	}
	if (code < 0 || (code >= BPF_FIB_LKUP_RET_BLACKHOLE && code <= BPF_FIB_LKUP_RET_PROHIBIT)) {
		p->verdict = DROP_NO_ROUTE;
		return NULL;
	}
	hop->to = *to;
	hop->from = *from;
	hop->ingress = ctx_ifindex(ctx);
	hop->ifindex = fib.ifindex;
	hop->v6 = fib.family == AF_INET6;
	if (hop->v6)
		__builtin_memcpy(&hop->gateway, fib.ipv6_dst, sizeof(hop->gateway));
	else
		map_v4(&hop->gateway, fib.ipv4_dst);
	__builtin_memcpy(hop->macs, fib.dmac, ETH_ALEN);
	__builtin_memcpy((void *)hop->macs + ETH_ALEN, fib.smac, ETH_ALEN);
	hop->valid_until = p->tick + (code == BPF_FIB_LKUP_RET_NO_NEIGH ? 0 : NEXT_HOP_S * config.hz);
	hop->probe = ctx_probes();
	hop->hook = CTX_HOOK;
	hop->mtu = code == BPF_FIB_LKUP_RET_SUCCESS ? fib.mtu_result : 0;
	hop->how = code == BPF_FIB_LKUP_RET_SUCCESS ? SEND_MACS : SEND_NEIGHBOUR;
	/* A local address, a tunnel route, or no route: the stack knows better, and tells the sender. */
	if ((code != BPF_FIB_LKUP_RET_SUCCESS && code != BPF_FIB_LKUP_RET_NO_NEIGH) || through_stack(ctx, fib.ifindex))
		hop->how = code == BPF_FIB_LKUP_RET_NOT_FWDED ? SEND_LOCAL : SEND_STACK;
	return hop;
}

/* from: the source we write, which the kernel's rules may route by; none where the client's address stays. */
static __always_inline struct next_hop *next_hop(CTX *ctx, struct packet *p, const struct addr *from, const struct addr *to)
{
	__u64 hash = (__u64)ctx_ifindex(ctx) << 32 | to->w[3];
	struct next_hop *hop;
	__u32 index;

	hash = mix(hash, from->w[3]);
	if (p->v6)
		hash = mix(mix(hash, to->d[0]), from->d[0] ^ to->w[2]);
	index = mix(hash, 1) % NEXT_HOPS;	/* the last word must reach every bit, too */
	hop = map_get(next_hops, &index);
	if (!hop)
		return NULL;
	if ((__s32)(hop->valid_until - p->tick) > 0 && hop->hook == CTX_HOOK && hop->ingress == ctx_ifindex(ctx) &&
	    same_addr(&hop->to, to) && same_addr(&hop->from, from))
		return hop;
	return ask_fib(ctx, p, hop, from, to);
}

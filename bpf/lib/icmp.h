/* ICMP errors about packets we rewrote: turned back, inside and out, so that path MTU discovery works through a VIP.
 *
 * The checksum of the quoted TCP or UDP header is left as it is: nobody can verify it, the quote ends early.
 */

static __always_inline bool is_error(const struct packet *p)
{
	__u8 type = p->icmp_type;

	if (p->v6)
		return type >= 1 && type <= 4;	/* RFC 4443: unreachable, too big, time exceeded, parameter problem */
	return type == 3 || type == 11 || type == 12;	/* RFC 792, the same */
}

/* The quoted packet, which we sent, as its answer would arrive.  Returns its ports, NULL: not one of ours. */
static __always_inline __be16 *parse_quote(struct flow_key *answer, const struct packet *p, void *end)
{
	void *quote = p->l4 + sizeof(struct icmphdr);
	__be16 *ports;

	if (p->v6) {
		struct ipv6hdr *ip = quote;

		if ((void *)(ip + 1) > end)
			return NULL;
		__builtin_memcpy(&answer->src, &ip->daddr, sizeof(answer->src));
		__builtin_memcpy(&answer->dst, &ip->saddr, sizeof(answer->dst));
		answer->proto = ip->nexthdr;
		ports = (void *)(ip + 1);
		if (ip->nexthdr == IPPROTO_FRAGMENT) {
			struct fragment_header *fragment = (void *)ports;

			if ((void *)(fragment + 1) > end || fragment->offset & bpf_htons(0xfff8))
				return NULL;
			answer->proto = fragment->nexthdr;
			ports = (void *)(fragment + 1);
		}
	} else {
		struct iphdr *ip = quote;

		if ((void *)(ip + 1) > end || ip->ihl < 5 || ip->frag_off & bpf_htons(0x1fff))
			return NULL;
		map_v4(&answer->src, ip->daddr);
		map_v4(&answer->dst, ip->saddr);
		answer->proto = ip->protocol;
		ports = quote + ip->ihl * 4;
	}
	if ((void *)(ports + 4) > end)
		return NULL;
	answer->sport = ports[1];
	answer->dport = ports[0];
	return ports;
}

/* Give the quoted packet the ends it had before we rewrote it. */
static __always_inline void rewrite_quote(struct packet *p, __be16 *ports, const struct flow_key *answer, const struct flow_key *was)
{
	struct icmphdr *icmp = p->l4;
	__u64 addrs = csum_addr(&answer->dst, &was->src, p->v6) + csum_addr(&answer->src, &was->dst, p->v6);
	__u32 difference = csum_word(ports[0], was->sport) + csum_word(ports[1], was->dport);

	if (p->v6) {
		struct ipv6hdr *ip = (void *)(icmp + 1);

		__builtin_memcpy(&ip->saddr, &was->src, sizeof(ip->saddr));
		__builtin_memcpy(&ip->daddr, &was->dst, sizeof(ip->daddr));
		difference = csum_fold32(addrs + difference);
	} else {	/* its header checksum makes up for its addresses */
		struct iphdr *ip = (void *)(icmp + 1);

		ip->saddr = was->src.w[3];
		ip->daddr = was->dst.w[3];
		csum_mend(&ip->check, csum_fold32(addrs));
	}
	ports[0] = was->sport;
	ports[1] = was->dport;
	csum_mend(&icmp->checksum, difference);
}

/* The flow's packet as it was before it was rewritten: of the client where the error is about what went to the backend. */
static __always_inline void original(struct flow_key *was, const struct flow *flow, bool to_backend)
{
	was->src = to_backend ? flow->src : flow->new_dst;
	was->dst = to_backend ? flow->dst : flow->new_src;
	was->sport = to_backend ? flow->sport : flow->new_dport;
	was->dport = to_backend ? flow->dport : flow->new_sport;
}

/* Did this machine's own stack send the quoted packet from a frontend?  Then the error is its own too: it lowers its path MTU. */
static __always_inline bool about_local(const struct flow_key *answer)
{
	struct frontend_key key = { .port = answer->dport, .proto = answer->proto };
	struct frontend *frontend;

	__builtin_memcpy(key.vip, &answer->dst, sizeof(key.vip));
	frontend = map_get(frontends, &key);
	return frontend && frontend->flags & FRONTEND_LOCAL;
}

/* False: not about a flow of ours, and the packet is untouched. */
static __always_inline bool turn_back(CTX *ctx, struct packet *p, void *end, int *action)
{
	struct flow_key answer = {}, was = {};
	struct found found;
	struct rewrite to;
	__be16 *ports, *words = p->l4;
	__u64 addrs;

	ports = parse_quote(&answer, p, end);
	if (!ports || !same_addr(&answer.dst, &p->key->dst))	/* it went to another than the one whose packet it quotes */
		return false;
	if (!find_flow(&answer, hash_of(&answer, p->v6), p->v6, &found) || !takes_answers(found.flow, found.life, p->tick)) {
		if (!about_local(&answer))
			return false;
		p->verdict = DELIVERED;
		*action = CTX_PASS;
		return true;
	}
	original(&was, found.flow, found.back);
	rewrite_quote(p, ports, &answer, &was);
	/* Where ports would be, ICMP has its type and its checksum: they stay. */
	p->key->sport = words[0];
	p->key->dport = words[1];
	if (!p->v6)
		p->l4_csum = NULL;	/* covers no addresses */
	addrs = csum_addr(&p->key->dst, &was.src, p->v6);
	to = (struct rewrite){ .src = &p->key->src, .dst = &was.src, .sport = words[0], .dport = words[1] };
	to.addrs = to.l4 = csum_fold16(csum_fold32(addrs));
	*action = send(ctx, p, &to, ICMP_FORWARDED);
	if (!still(found.flow, found.life))
		*action = drop(p, DROP_REWRITE_FAILED);
	return true;
}

/* Checksums by difference (RFC 1624).  Differences are kept in 32 bits of one's complement. */

static __always_inline __u32 csum_fold32(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	return (__u32)sum + (__u32)(sum >> 32);
}

static __always_inline __u16 csum_fold16(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (__u16)sum + (__u16)(sum >> 16);
}

/* What a checksum over `old` lacks once it is `new`.  The upper words of two v4-mapped addresses cancel out. */
static __always_inline __u64 csum_addr(const struct addr *old, const struct addr *new, bool v6)
{
	__u64 sum = (__u64)(__u32)~old->w[3] + new->w[3];

	if (!v6)
		return sum;
	for (int i = 0; i < 3; i++)
		sum += (__u64)(__u32)~old->w[i] + new->w[i];
	return sum;
}

/* Same for 16 bits. */
static __always_inline __u32 csum_word(__u16 old, __u16 new)
{
	return (__u32)(__u16)~old + new;
}

/* Zero has two forms. */
static __always_inline bool csum_differ(__u16 a, __u16 b)
{
	return (a == 0xffff ? 0 : a) != (b == 0xffff ? 0 : b);
}

/* The sum over the pseudo header.  len: of what follows the IP header. */
static __always_inline __u16 csum_pseudo(const struct flow_key *key, __u32 len, bool v6)
{
	__u64 sum = (__u64)key->src.w[3] + key->dst.w[3] + bpf_htonl(len) + bpf_htonl(key->proto);

	if (v6)
		for (int i = 0; i < 3; i++)
			sum += (__u64)key->src.w[i] + key->dst.w[i];
	return csum_fold16(csum_fold32(sum));
}

static __always_inline void csum_mend(__sum16 *field, __u32 difference)
{
	*field = ~csum_fold16(csum_fold32((__u64)(__u16)~*field + difference));
}

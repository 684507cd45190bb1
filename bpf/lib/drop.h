/* Every packet ends in one of these, and each has a per-CPU counter in `verdicts`. */

enum verdict {
	PASSED,			/* not ours: untouched */
	FORWARDED,		/* to a backend */
	REPLIED,		/* to a client */
	DELIVERED,		/* to this machine's own stack */
	ARP_ANSWERED,
	NDP_ANSWERED,
	ECHO_ANSWERED,
	ICMP_FORWARDED,
	TOLD_TOO_BIG,		/* dropped as below, and the sender told */
	TOLD_TTL_EXCEEDED,
	TOLD_NO_BACKEND,
	FRAGMENT_RETRIED,	/* ahead of its first: seen again, in one more verdict, after what is queued */

	DROP_NO_FRONTEND = 16,
	DROP_NO_BACKEND,
	DROP_FRAGMENT,
	DROP_MALFORMED,
	DROP_TTL_EXCEEDED,
	DROP_NAT_PORTS_EXHAUSTED,
	DROP_CONNTRACK_FULL,
	DROP_NO_ROUTE,
	DROP_FORWARDING_OFF,	/* sysctl of the interface it came in by */
	DROP_UNSUPPORTED,	/* protocol, extension header or mix of families */
	DROP_SOURCE_DENIED,
	DROP_NOT_OWNER,		/* ARP or NDP for a VIP that another node announces */
	DROP_MARTIAN,
	DROP_TOO_BIG,
	DROP_NO_INTERFACE,	/* no address or MAC known for it */
	DROP_REWRITE_FAILED,
	DROP_BAD_FRAGMENT,	/* overlaps or cuts the header that decides, or has an impossible length */
};

static __always_inline void count_verdict(enum verdict verdict)
{
	__u32 index = verdict;
	__u64 *counter = map_get(verdicts, &index);

	if (counter)
		*counter += 1;
}

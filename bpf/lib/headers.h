/* What the programs need of the kernel: its user-space API, libbpf's declarations, and the few fields that CO-RE finds. */

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <stdbool.h>
#include <stddef.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define AF_INET 2
#define AF_INET6 10
#ifndef IPPROTO_ICMPV6
#define IPPROTO_ICMPV6 58
#define IPPROTO_FRAGMENT 44
#endif

/* linux/icmp.h wants a C library's headers. */
struct icmphdr {
	__u8 type;
	__u8 code;
	__sum16 checksum;
	__be32 rest;
};

/* Loops that the verifier follows until nothing new comes of it, not to their end (kernel 6.4). */
struct bpf_iter_num {
	__u64 opaque[1];
} __attribute__((aligned(8)));

extern int bpf_iter_num_new(struct bpf_iter_num *it, int start, int end) __ksym;
extern int *bpf_iter_num_next(struct bpf_iter_num *it) __ksym;
extern void bpf_iter_num_destroy(struct bpf_iter_num *it) __ksym;

/* `break` leaves it; nothing else may.  Named without a call, as clang else forgets the type of a function that only cleans up. */
#define repeat(i, times)                                                                                        \
	for (struct bpf_iter_num it##i __attribute__((aligned(8), cleanup(bpf_iter_num_destroy))),              \
	     *started##i = (bpf_iter_num_new(&it##i, 0, times), (void)bpf_iter_num_destroy, (void *)0);                     \
	     ({ int *next##i = bpf_iter_num_next(&it##i); (void)started##i; next##i ? (i = *next##i, true) : false; });)

char _license[] SEC("license") = "Dual MIT/GPL";

/* What the programs need of the kernel: its user-space API only, so any version's headers will do. */

#include <uapi/linux/bpf.h>
#include <uapi/linux/icmp.h>
#include <uapi/linux/if_ether.h>
#include <uapi/linux/if_packet.h>
#include <uapi/linux/in.h>
#include <uapi/linux/ip.h>
#include <uapi/linux/ipv6.h>
#include <uapi/linux/pkt_cls.h>
#include <uapi/linux/tcp.h>
#include <uapi/linux/udp.h>

#define AF_INET 2
#define AF_INET6 10
#ifndef IPPROTO_ICMPV6
#define IPPROTO_ICMPV6 58
#define IPPROTO_FRAGMENT 44
#endif

#define bpf_htons(x) __builtin_bswap16(x)
#define bpf_ntohs(x) __builtin_bswap16(x)
#define bpf_htonl(x) __builtin_bswap32(x)
#define bpf_ntohl(x) __builtin_bswap32(x)

/* CLOCK_MONOTONIC to a tick.  The loader measures both numbers: services/dataplane/kernel_clock.py. */
#define now_ns() (bpf_jiffies64() * TICK_NS + EPOCH_NS)

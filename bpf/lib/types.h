/* Every key and value of every map.  No holes: keys compare as bytes.
 * services/dataplane/l4/layout.py mirrors this file, and a test compares the two.
 */

/* An address of either family; IPv4 is v4-mapped (::ffff:a.b.c.d). */
struct addr {
	union {
		__be32 w[4];
		__u64 d[2];
	};
};

/* Key of `frontends`. */
struct frontend_key {
	__be32 vip[4];
	__be16 port;
	__u8 proto;	/* IPPROTO_* */
	__u8 pad;
};

enum { ALGORITHM_MAGLEV, ALGORITHM_RR };
enum { MODE_DEFAULT, MODE_ONEARM, MODE_FULLNAT };
enum { FRONTEND_LOCAL = 1, FRONTEND_AFFINITY = 2, FRONTEND_SOURCES = 4, FRONTEND_REJECT = 8 };

struct frontend {
	__u64 set;		/* backend set: with size, the key of its table */
	__u32 size;		/* slots of the table; 0 = no backend */
	__u32 id;
	__u32 idle_timeout_s;	/* 0 = the protocol's own */
	__u8 algorithm;
	__u8 mode;
	__u16 flags;
	__u64 plan_seq;
};

#define CHUNK 64

/* The size is in the key, so a resized table is written beside the old one and the frontend turns to it in one update. */
struct table_key {
	__u64 set;
	__u32 size;
	__u32 chunk;
};

struct table_chunk {
	__u32 backend_id[CHUNK];
};

struct backend {
	__be32 addr[4];
	__be16 port;	/* 0 = no such backend */
	__u8 proto;
	__u8 flags;
};

/* Key of `backend_up` and `backend_ids`. */
struct backend_key {
	__be32 addr[4];
	__be16 port;
	__u8 proto;
	__u8 pad;
};

/* The ends of a packet as it arrives. */
struct flow_key {
	struct addr src;
	struct addr dst;
	__be16 sport;
	__be16 dport;
	__u8 proto;
	__u8 pad[3];
};

enum { STATE_NONE, STATE_OPENING, STATE_ESTABLISHED, STATE_HALF_CLOSED, STATE_CLOSED, STATE_RESET };
enum { FLOW_FIN_IN = 1, FLOW_FIN_OUT = 2, FLOW_REPLIED = 4, FLOW_OVER = 8 };

#define IDLE_MINUTES 0x8000	/* `idle` counts minutes, not seconds */

/* One slot of `flows`: a flow, both directions.  Two cache lines, and a packet needs both.
 *
 * life: from its lowest bit on: a sequence number 32, state 8, flags 8, count of state changes 16.  The number is odd while
 * the slot is being written, and another for each flow the slot has held.  It changes by compare and exchange alone.
 */
struct flow {
	struct addr src;	/* the packet as it arrives from the client */
	struct addr dst;
	__be16 sport;
	__be16 dport;
	__u8 proto;
	__u8 mode;
	__u16 idle;		/* idle timeout in seconds or IDLE_MINUTES, as it holds for this flow: never 0 */
	__u64 life;
	__u32 seen;		/* jiffies, either direction */
	__u32 cut;		/* the agent's: the sequence number of a flow to end; with its lowest bit set, at its next SYN */
	__u32 packets_in;
	__u32 packets_out;

	struct addr new_src;	/* as it leaves to the backend */
	struct addr new_dst;
	__be16 new_sport;
	__be16 new_dport;
	__u16 addrs_delta;	/* what a checksum lacks once the addresses are rewritten; on the way back: its complement */
	__u16 l4_delta;		/* the same for addresses and ports */
	__u32 frontend_id;
	__u32 backend_id;
	__u64 bytes_in;
	__u64 bytes_out;
};

/* What few packets need of a flow: `flow_more`, by the same number. */
struct flow_more {
	__u64 plan_seq;		/* the plan that chose the backend */
	__u64 created_ns;
};

/* A line of `flow_index`.  A word: the tag of a key's hash in the upper half; USED, BACK, OVERFLOWED, GUEST and the slot in the lower.
 * Each flow has two: one leads from the packet of the client, one from the packet of the backend.  There are half as many sets as slots;
 * two that stand side by side help each other out.
 */
#define WAYS 8
#define BACK 0x80000000u
#define OVERFLOWED 0x40000000u	/* in the first word: the set beside it has guests from here */
#define USED 0x20000000u	/* so that no word in use is 0 */
#define GUEST 0x10000000u	/* belongs to the set beside this one, which was full */
#define SLOT 0x0fffffffu

struct flow_set {
	__u64 words[WAYS];
};

/* One for each CPU: what a program leaves to the next, and what outlives a packet. */
struct scratch {
	struct flow_key key;	/* of the packet that begins a flow */
	__u64 hash;		/* of the packet's key */
	__u64 told_ns;		/* answers to senders are spaced from here */
	__u64 retried_ns;	/* the same of fragments that are seen again */
	__u64 next;		/* the slot to look at first for the next flow */
	__u32 mtu;		/* what `answer` needs of the packet before it */
	__u8 reason;		/* enum verdict */
	__u8 stays;		/* the flow's backend has just been chosen, or there is no better one */
	__u8 had;		/* there is a flow of this packet */
	__u8 pad;
};

#define NEXT_HOPS 16384

enum { HOOK_TC = 1, HOOK_XDP };
enum { SEND_MACS, SEND_NEIGHBOUR, SEND_STACK, SEND_LOCAL };	/* the last two by the stack: elsewhere, or to this machine itself */

/* One line of the per-CPU next hop cache: where packets to `to` leave that came in by `ingress`.
 * from: the address that we write as their source; none where the client's stays: the way does not depend on the client.
 */
struct next_hop {
	__u32 macs[3];		/* destination, source: the first 12 bytes of the frame */
	__u32 ifindex;
	struct addr to;
	struct addr from;
	__u32 ingress;
	__u32 valid_until;	/* jiffies */
	__u16 mtu;		/* 0 = not known */
	__u8 how;
	__u8 probe;		/* not yet sent through the neighbour's state machine */
	__u8 v6;		/* family of the gateway */
	__u8 hook;		/* `how` is as this one can send */
	__u8 pad[2];
	struct addr gateway;
};

enum { INTERFACE_STACK = 1, INTERFACE_NATIVE = 2, INTERFACE_GENERIC = 4 };

struct interface {
	struct addr v4;
	struct addr v6;
	__u8 mac[6];
	__u16 flags;
};

enum { VIP_SHARED = 1 };	/* an LB node's own address: only the ports of its frontends are ours */

#define ANNOUNCERS 11

/* order: slots in `lb_nodes` of those that may announce it, the first choice first.  count 0: this node announces it, always. */
struct vip {
	__u32 flags;
	__u8 count;
	__u8 order[ANNOUNCERS];
};

/* An LB node as the hello process of this one sees it, by slot; slot 0 is this one.  Times of CLOCK_MONOTONIC. */
struct lb_node {
	__u64 alive_until_ns;
	__u64 ready_until_ns;	/* it may announce VIPs */
};

#define ETH_P_HELLO 0x88b5	/* for local experiments (IEEE 802): hellos are of one link */

/* Hellos on the wire, as the program sees them: it goes on when no process does. */
struct hello_seen {
	__u64 group;	/* the agent's: of the nodes of one log */
	__u64 at_ns;	/* the last of that group */
};

struct source_range_key {
	__u32 bits;		/* 32 for the id, then those of the prefix */
	__u32 frontend_id;
	struct addr network;
};

/* Key of `affinity`: a client of a frontend. */
struct affinity_key {
	__u32 frontend_id;
	__u32 pad;
	struct addr client;
};

struct affinity {
	__u32 backend_id;
	__u32 pad;
	__u64 last_ns;		/* when it last began a flow */
};

/* Key of `affinity_s`: a backend that the frontend's clients may keep, for so many seconds. */
struct affinity_of {
	__u32 frontend_id;
	__u32 backend_id;
};

/* Key of `fragments`: what the fragments of one datagram have in common. */
struct fragment_key {
	struct addr src;
	struct addr dst;
	__be32 id;
	__u8 proto;
	__u8 pad[3];
};

enum { FRAGMENT_OF_FLOW, FRAGMENT_OF_ECHO, FRAGMENT_PASSED };

/* What the first fragment of a datagram says of the others. */
struct fragment {
	__be16 sport;
	__be16 dport;
	__u32 id;		/* as it leaves */
	__u32 seen;		/* jiffies */
	__u8 kind;
	__u8 header;		/* bytes of the L4 header: no other fragment may begin within */
	__u8 pad[2];
};

struct stats {
	__u64 packets_in;
	__u64 bytes_in;
	__u64 packets_out;
	__u64 bytes_out;
	__u64 flows;
};

/* Constants of one load of the programs, which the verifier sees as such.  services/dataplane/load/programs.py fills it in. */
struct config {
	__u64 keys[10];		/* of the flow index's hash: secret, random, the machine's */
	__u64 v4_part;		/* what the words of v4-mapped addresses that are always the same add to it */
	__u64 tick_ns;		/* CLOCK_MONOTONIC = jiffies * tick_ns + epoch_ns: services/dataplane/load/clock.py */
	__s64 epoch_ns;
	__u32 hz;
	__u32 slot_mask;	/* slots of `flows` - 1: a power of two less one */
};

/* Every key and value of every map.  No holes: keys compare as bytes.
 * services/dataplane/layout.py mirrors this file, and a test compares the two.
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

enum { BACKEND_SHARED = 1 };

struct backend {
	__be32 addr[4];
	__be16 port;	/* 0 = no such backend */
	__u8 proto;
	__u8 flags;
};

/* Key of `backend_up` and `origins`. */
struct backend_key {
	__be32 addr[4];
	__be16 port;
	__u8 proto;
	__u8 pad;
};

#define CANDIDATES 4

/* Which frontends a packet from a backend may be the reply of. */
struct origin {
	__u32 backend_id;
	__u8 count;
	__u8 pad[3];
	struct frontend_key candidates[CANDIDATES];
};

/* Key of `conntrack`: the packet as it arrives. */
struct flow_key {
	struct addr src;
	struct addr dst;
	__be16 sport;
	__be16 dport;
	__u8 proto;
	__u8 pad[3];
};

enum { KIND_FORWARD, KIND_REVERSE };
enum { STATE_NONE, STATE_HALF_OPEN, STATE_ESTABLISHED, STATE_CLOSING, STATE_CLOSED };
enum { FLOW_FIN_IN = 1, FLOW_FIN_OUT = 2, FLOW_PAIRED = 4 };
enum { SYNC_CHANGED = 1, SYNC_REMOTE = 2 };

/* Value of `conntrack`.  A forward entry is the whole flow.  A reverse entry only leads to it: its new_* are the forward
 * key, swapped.  new_sport of a forward entry is the NAT port.
 */
struct flow {
	struct addr new_src;	/* the packet as it leaves */
	struct addr new_dst;
	__be16 new_sport;
	__be16 new_dport;
	__u8 kind;
	__u8 mode;
	__u8 state;
	__u8 flags;
	__u8 sync;
	__u8 pad[3];
	__u32 idle_timeout_s;	/* as it holds for this flow: never 0 */
	__u32 frontend_id;
	__u32 backend_id;
	__u64 plan_seq;		/* the plan that chose the backend */
	__u64 last_seen_ns;	/* bpf_ktime, either direction */
	__u64 created_ns;
	__u64 packets_in;
	__u64 bytes_in;
	__u64 packets_out;
	__u64 bytes_out;
};

#define SAMPLE 8

/* One for each CPU, as the stack has no room for it. */
struct scratch {
	struct flow flow;
	__u64 next;		/* place in `flow_keys` for the next flow */
	__u64 told_ns;		/* answers to senders are spaced from here */
	__u32 mtu;		/* what `answer` needs of the packet before it */
	__u8 reason;		/* enum verdict */
	__u8 made_room;		/* how often, for this packet */
	__u8 free;		/* how many of `places` are */
	__u8 pad;
	__u32 places[SAMPLE];	/* in `flow_keys`, of flows that are no more */
};

#define NEXT_HOPS 16384

enum { HOOK_TC = 1, HOOK_XDP };
enum { SEND_MACS, SEND_NEIGHBOUR, SEND_STACK };

/* One line of the per-CPU next hop cache: where packets to `to` leave. */
struct next_hop {
	__u32 macs[3];		/* destination, source: the first 12 bytes of the frame */
	__u32 ifindex;
	struct addr to;
	struct addr gateway;
	__u64 valid_until_ns;
	__u8 how;
	__u8 probe;		/* not yet sent through the neighbour's state machine */
	__u8 v6;		/* family of the gateway */
	__u8 hook;		/* `how` is as this one can send */
	__u16 mtu;		/* 0 = not known */
	__u8 pad2[2];
};

enum { INTERFACE_STACK = 1, INTERFACE_NATIVE = 2, INTERFACE_GENERIC = 4 };

struct interface {
	struct addr v4;
	struct addr v6;
	__u8 mac[6];
	__u16 flags;
};

struct vip {
	__u64 announce_until_ns;	/* 0 = no deadline */
	__u32 flags;
	__u32 pad;
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

struct stats {
	__u64 packets_in;
	__u64 bytes_in;
	__u64 packets_out;
	__u64 bytes_out;
	__u64 flows;
};

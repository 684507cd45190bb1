"""The nftables ruleset that kube-proxy (v1.31 and later, nftables mode) would write for LoadBalancer Services, as `nft -f` takes it.

All of its base chains are there, also those that have nothing to do, since every new flow walks them.  A Service of traffic policy
Local keeps the client's address; one of policy Cluster is masqueraded.  Source: kubernetes/pkg/proxy/nftables, README and tests.
"""

from collections.abc import Sequence

Frontend = tuple[str, str, int, Sequence[str]]  # VIP, protocol, port, addresses of its endpoints, which have the same port

POD_NETWORK, SERVICE_NETWORK, CLUSTER_IP, NODE = "10.244.0.0/16", "10.96.0.0/12", "10.96.0.10", "10.76.0.1"

_BASE = """
table ip kube-proxy {{
	set cluster-ips {{ type ipv4_addr; elements = {{ {cluster_ip} }}; }}
	set nodeport-ips {{ type ipv4_addr; elements = {{ {node} }}; }}
	map firewall-ips {{ type ipv4_addr . inet_proto . inet_service : verdict; }}
	map no-endpoint-nodeports {{ type inet_proto . inet_service : verdict; }}
	map no-endpoint-services {{ type ipv4_addr . inet_proto . inet_service : verdict; }}
	map service-nodeports {{ type inet_proto . inet_service : verdict; }}
	map service-ips {{
		type ipv4_addr . inet_proto . inet_service : verdict
		elements = {{ {elements} }}
	}}
	chain mark-for-masquerade {{ mark set mark or 0x4000; }}
	chain masquerading {{
		mark and 0x4000 == 0 return
		mark set mark xor 0x4000
		masquerade fully-random
	}}
	chain services {{
		ip daddr . meta l4proto . th dport vmap @service-ips
		ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports
	}}
	chain cluster-ips-check {{
		ip daddr @cluster-ips reject
		ip daddr {services} drop
	}}
	chain firewall-check {{ ip daddr . meta l4proto . th dport vmap @firewall-ips; }}
	chain service-endpoints-check {{ ip daddr . meta l4proto . th dport vmap @no-endpoint-services; }}
	chain nodeport-endpoints-check {{ ip daddr @nodeport-ips meta l4proto . th dport vmap @no-endpoint-nodeports; }}
	chain filter-prerouting-pre-dnat {{ type filter hook prerouting priority -110; ct state new jump firewall-check; }}
	chain filter-output-pre-dnat {{ type filter hook output priority -110; ct state new jump firewall-check; }}
	chain filter-forward {{
		type filter hook forward priority 0
		ct state new jump service-endpoints-check
		ct state new jump cluster-ips-check
	}}
	chain filter-input {{
		type filter hook input priority 0
		ct state new jump nodeport-endpoints-check
		ct state new jump service-endpoints-check
	}}
	chain filter-output {{
		type filter hook output priority 0
		ct state new jump service-endpoints-check
		ct state new jump cluster-ips-check
	}}
	chain nat-prerouting {{ type nat hook prerouting priority -100; jump services; }}
	chain nat-output {{ type nat hook output priority -100; jump services; }}
	chain nat-postrouting {{ type nat hook postrouting priority 100; jump masquerading; }}
{chains}}}
"""


def ruleset(frontends: Sequence[Frontend], *, masquerade: bool) -> str:
    """Of these LoadBalancer Services, all of the one traffic policy or the other."""
    elements = ", ".join(f"{vip} . {protocol} . {port} : goto external-{_word(vip)}-{port}" for vip, protocol, port, _ in frontends)
    chains = "".join(_chains(frontend, masquerade) for frontend in frontends)
    text = _BASE.format(node=NODE, services=SERVICE_NETWORK, cluster_ip=CLUSTER_IP, elements=elements, chains=chains)
    return _as_v6(text) if ":" in frontends[0][0] else text


def _as_v6(text: str) -> str:
    """The same for IPv6."""
    for v4, v6 in (
        ("table ip ", "table ip6 "),
        ("ipv4_addr", "ipv6_addr"),
        ("ip daddr", "ip6 daddr"),
        ("ip saddr", "ip6 saddr"),
        (NODE, "fd76::1"),
        (SERVICE_NETWORK, "fd96::/108"),
        (CLUSTER_IP, "fd96::10"),
        (POD_NETWORK, "fd10:244::/56"),
    ):
        text = text.replace(v4, v6)
    return text


def _chains(frontend: Frontend, masquerade: bool) -> str:
    vip, protocol, port, endpoints = frontend
    name, marked = f"{_word(vip)}-{port}", "jump mark-for-masquerade"
    choice = ", ".join(f"{at} : goto endpoint-{name}-{_word(address)}" for at, address in enumerate(endpoints))
    choose = f"numgen random mod {len(endpoints)} vmap {{ {choice} }}"
    service = _chain(f"service-{name}", f"ip daddr {CLUSTER_IP} ip saddr != {POD_NETWORK} {marked}", choose)
    local = (
        f"ip saddr {POD_NETWORK} goto service-{name}",
        f"fib saddr type local {marked}",
        f"fib saddr type local goto service-{name}",
        choose,
    )
    external = _chain(f"external-{name}", *((marked, f"goto service-{name}") if masquerade else local))
    each = (_chain(f"endpoint-{name}-{_word(a)}", f"ip saddr {a} {marked}", _dnat(protocol, a, port)) for a in endpoints)
    return "".join((*each, service, external))


def _dnat(protocol: str, address: str, port: int) -> str:
    return f"meta l4proto {protocol} dnat to {f'[{address}]' if ':' in address else address}:{port}"


def _word(address: str) -> str:
    """As names of chains have it."""
    return address.replace(":", ".")


def _chain(name: str, *rules: str) -> str:
    return "".join(f"\t{line}\n" for line in (f"chain {name} {{", *(f"\t{rule}" for rule in rules), "}"))

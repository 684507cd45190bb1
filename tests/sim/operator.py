"""A random operator, and a random world around: objects that come, change and go; endpoints that flip; machines and processes that fail."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from tests.sim.cluster_state import Content
from tests.sim.installation import Installation
from weir.events import NodeLeft

SERVICES: Final = ("shop/web", "shop/api", "shop/dns", "team/web", "team/mail")
PORTS: Final = ((80, "TCP"), (443, "TCP"), (53, "UDP"))
POOLS: Final = ("a", "b")
V4: Final = ("203.0.113.1-203.0.113.1", "203.0.113.1-203.0.113.2", "203.0.113.1-203.0.113.4", "203.0.113.3-203.0.113.4", "203.0.113.8/30")
V6: Final = ("2001:db8::10-2001:db8::11", "2001:db8::10-2001:db8::10")
NAMED: Final = ("203.0.113.1", "203.0.113.2", "203.0.113.9", "198.51.100.1")
NODES: Final = ("n1", "n2", "n3")
BACKENDS: Final = tuple(f"10.0.0.{number}" for number in range(1, 7))


class Operator:
    """One step at a time.  What happens how often: the weights below."""

    def __init__(self, here: Installation) -> None:
        self._here, self._dice = here, here.dice
        self._steps: dict[Callable[[], None], int] = {
            self._service: 14,
            self._delete_service: 4,
            self._slice: 10,
            self._delete_slice: 2,
            self._pool: 5,
            self._delete_pool: 1,
            self._node: 2,
            self._delete_node: 1,
            self._flip_backend: 6,
            self._join: 3,
            self._vanish: 1,
            self._leave: 1,
            self._reboot: 1,
            self._kill: 8,
            self._freeze: 4,
            self._expire: 1,
            self._outage: 1,
            self._trouble: 1,
        }

    def begin(self) -> None:
        """Something to change."""
        self._pool()
        self._join()
        for _ in range(2):
            self._service()
            self._slice()

    def step(self) -> None:
        (action,) = self._dice.choices(list(self._steps), list(self._steps.values()))
        action()

    # ── objects ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _service(self) -> None:
        name = self._dice.choice(SERVICES)
        before = self._here.cluster.get("Service", name)
        if before and self._dice.random() < 0.4:
            self._here.cluster.put("Service", name, self._edited(before))
        else:
            self._here.cluster.put("Service", name, self._new_service(name))

    def _new_service(self, name: str) -> Content:
        dice = self._dice
        spec: Content = {"type": dice.choice(("LoadBalancer",) * 7 + ("ClusterIP",)), "ports": self._ports()}
        if dice.random() < 0.2:
            spec |= {"ipFamilyPolicy": dice.choice(("PreferDualStack", "RequireDualStack")), "ipFamilies": ["IPv4", "IPv6"]}
        if dice.random() < 0.2:
            spec |= {"externalTrafficPolicy": "Local"}
        return _object("v1", "Service", name, annotations=self._annotations(), spec=spec)

    def _edited(self, before: Content) -> Content:
        """One thing is different."""
        if self._dice.random() < 0.5:
            return before | {"spec": before["spec"] | {"ports": self._ports()}}
        return before | {"metadata": before["metadata"] | {"annotations": self._annotations()}}

    def _ports(self) -> list[Content]:
        dice = self._dice
        if dice.random() < 0.05:
            return [{"port": 0}]  # not valid
        return [
            {"name": f"p{port}", "port": port, "protocol": protocol, "targetPort": 8000 + port, "nodePort": 30000 + port}
            for port, protocol in dice.sample(PORTS, dice.choice((1, 1, 2)))
        ]

    def _annotations(self) -> dict[str, str]:
        dice = self._dice
        offered = {
            "weir.dev/share-key": dice.choice(("k", "k", "l")),
            "weir.dev/ips": dice.choice(NAMED),
            "weir.dev/liveness": "yes",
            "weir.dev/pool": dice.choice(POOLS),
            "weir.dev/epselect": "rr",
            "weir.dev/drain-timeout": "5",
            "weir.dev/targets": "nodes",
            "weir.dev/exclusive": "yes",
            "weir.dev/lbmode": dice.choice(("onearm", "dsr")),
        }
        chances = dict(zip(offered, (0.5, 0.2, 0.5, 0.15, 0.1, 0.1, 0.1, 0.05, 0.1), strict=True))
        return {name: word for name, word in offered.items() if dice.random() < chances[name]}

    def _delete_service(self) -> None:
        self._delete("Service")

    def _slice(self) -> None:
        dice, service = self._dice, self._dice.choice(SERVICES)
        namespace, _, name = service.partition("/")
        ports = [{"name": f"p{port}", "port": 8000 + port, "protocol": protocol} for port, protocol in PORTS]
        endpoints = [self._endpoint(address) for address in dice.sample(BACKENDS, dice.randint(0, 3))]
        labels, path = {"kubernetes.io/service-name": name}, f"{namespace}/{name}-{dice.randint(1, 2)}"
        content = {"addressType": "IPv4", "ports": ports, "endpoints": endpoints}
        self._here.cluster.put("EndpointSlice", path, _object("discovery.k8s.io/v1", "EndpointSlice", path, labels=labels, **content))

    def _endpoint(self, address: str) -> Content:
        conditions = self._dice.choice(({}, {}, {"ready": False}, {"ready": False, "serving": True, "terminating": True}))
        return {"addresses": [address], "nodeName": self._dice.choice(NODES), "conditions": conditions}

    def _delete_slice(self) -> None:
        self._delete("EndpointSlice")

    def _pool(self) -> None:
        dice, name = self._dice, self._dice.choice(POOLS)
        addresses = [dice.choice(V4), *([dice.choice(V6)] if dice.random() < 0.3 else [])]
        spec: Content = {"addresses": addresses, "priority": dice.randint(0, 1)}
        if dice.random() < 0.2:
            spec["share"] = "ports"
        if dice.random() < 0.1:
            spec["autoAssign"] = False
        self._here.cluster.put("VIPPool", name, _object("weir.dev/v1alpha1", "VIPPool", name, spec=spec))

    def _delete_pool(self) -> None:
        self._delete("VIPPool")

    def _node(self) -> None:
        name = self._dice.choice(NODES)
        ready = {"type": "Ready", "status": self._dice.choice(("True", "True", "False"))}
        address = {"type": "InternalIP", "address": f"192.0.2.{name[1:]}"}
        self._here.cluster.put("Node", name, _object("v1", "Node", name, status={"addresses": [address], "conditions": [ready]}))

    def _delete_node(self) -> None:
        self._delete("Node")

    def _delete(self, kind: str) -> None:
        if names := self._here.cluster.names(kind):
            self._here.cluster.delete(kind, self._dice.choice(names))

    def _flip_backend(self) -> None:
        """One that is probed dies, or one that is dead comes back."""
        dead = sorted(self._here.dead)
        probed = sorted({target for machine in self._here.machines.values() for target in machine.probed()} - self._here.dead)
        if chosen := dead if dead and self._dice.random() < 0.5 else probed:
            self._here.dead ^= {self._dice.choice(chosen)}

    # ── machines and processes ─────────────────────────────────────────────────────────────────────────────────────

    def _join(self) -> None:
        if absent := [name for name in NODES if name not in self._here.machines]:
            self._here.join(self._dice.choice(absent))

    def _vanish(self) -> None:
        if len(self._here.machines) > 1:
            self._here.vanish(self._machine())

    def _leave(self) -> None:
        """weir leave, also of a machine that still runs."""
        self._here.log.observe("operator", NodeLeft(lbnode=self._dice.choice(NODES)))

    def _reboot(self) -> None:
        self._here.reboot(self._machine())

    def _trouble(self) -> None:
        self._here.machines[self._machine()].trouble(self._dice)

    def _machine(self) -> str:
        return self._dice.choice(sorted(self._here.machines))

    def _kill(self) -> None:
        self._dice.choice(self._here.processes()).kill()

    def _freeze(self) -> None:
        seconds = self._dice.choice((1, 5, 20, 70))
        if self._dice.random() < 0.5:
            name = self._machine()
            chosen = [self._here.agents[name], self._here.probers[name]]
        else:
            chosen = [self._dice.choice(self._here.processes())]
        for process in chosen:
            process.freeze(seconds)

    def _expire(self) -> None:
        self._here.log.expire()

    def _outage(self) -> None:
        self._here.log.away()

    async def pause(self) -> None:
        await asyncio.sleep(self._dice.choice((0, 0.05, 0.5, 3, 3, 20)) * self._dice.random())


def _object(api: str, kind: str, name: str, *, labels: Any = None, annotations: Any = None, **content: Any) -> Content:
    namespace, _, own = name.rpartition("/")
    metadata: Content = {"name": own} | ({"namespace": namespace} if namespace else {})
    metadata |= {word: held for word, held in (("labels", labels), ("annotations", annotations)) if held}
    return {"apiVersion": api, "kind": kind, "metadata": metadata} | content

"""What Envoy refuses, traced to one entity: a listener, an upstream, or a rule of a route.  Everything else goes on.

A refused listener or cluster stays as Envoy last took it.  A refused rule answers 500, and is left out where its match is at fault.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import msgspec

from services.dataplane.l7.admin import Admin
from services.dataplane.l7.bootstrap import fixed, serving
from services.dataplane.l7.judge import NoEnvoy, offenders, verdict
from services.dataplane.l7.render import Refused, Rendered, scheme_of
from services.dataplane.l7.routes import route_configuration, route_name, virtual_host
from weir.decider import World
from weir.events import ListenerPlanned, UpstreamPlanned, VirtualHostPlanned, key_of
from weir.model import ProxyRule, Rejection

_KINDS = {"lds": "listener", "cds": "cluster"}
_UNTRACED = "Envoy refuses a version of its configuration, but none of its parts by itself"


class File(msgspec.Struct, frozen=True):
    """A file that was written.   kind: lds, rds, cds, eds.   name: of the resource, where the file has one only."""

    kind: str
    name: str
    version: str


class Refusals:
    """good: listeners and clusters as Envoy last took them, by kind of file and name."""

    def __init__(self, node: str, rendered: Rendered, admin: Admin) -> None:
        self._node, self._rendered, self._admin = node, rendered, admin
        self.good: dict[str, dict[str, bytes]] = {}
        self._good_rules: dict[str, dict[str, list[ProxyRule]]] = {}  # by route configuration and hostname
        self._general: dict[tuple[str, str], str] = {}  # files that stay refused: why

    def taken(self, file: File) -> None:
        """Envoy has this version."""
        self._general.pop((file.kind, file.name), None)
        if file.kind in _KINDS:
            self.good[file.kind] = dict(self._resources(file.kind))
        elif file.kind == "rds":
            self._good_rules[file.name] = {
                host: self._rendered.rules.get((file.name, host), []) for host in self._rendered.hosts.get(file.name, {})
            }

    def give_up(self, files: Iterable[File], reason: str) -> None:
        """These stay as they are."""
        self._general |= {(file.kind, file.name): reason for file in files}

    async def trace(self, world: World, file: File) -> bool:
        """Find what Envoy refuses in a file, and leave it out; returns whether that was found."""
        try:
            found = await self._at_fault(world, file)
        except NoEnvoy as error:
            self.give_up([file], f"Envoy refuses it, and what is at fault in it cannot be found: {error}")
            return False
        self._rendered.refused |= found
        if not found:
            self.give_up([file], _UNTRACED)
        return bool(found)

    async def _at_fault(self, world: World, file: File) -> dict[tuple[str, str], Refused]:
        match file.kind:
            case "lds" | "cds":
                return await self._resources_at_fault(world, file.kind)
            case "rds":
                return await self._rules_at_fault(world, file.name)
        return {}

    def forget(self, world: World) -> None:
        """Drop what is planned no more as it was refused."""
        for (kind, name), refused in list(self._rendered.refused.items()):
            if not any(True for _ in self._entities(world, kind, name, refused)):
                del self._rendered.refused[kind, name]

    def listed(self, world: World) -> Iterator[Rejection]:
        """By entity."""
        for (kind, name), refused in sorted(self._rendered.refused.items(), key=lambda item: item[0]):
            for entity in self._entities(world, kind, name, refused):
                owner = refused.planned.route if isinstance(refused.planned, ProxyRule) else ""
                where = f"rule {refused.planned.rule}: " if isinstance(refused.planned, ProxyRule) else ""
                yield Rejection(entity=entity, owner=owner, reason=where + refused.reason)
        for (kind, name), reason in sorted(self._general.items()):
            yield Rejection(entity=f"proxy {kind} {name}".strip(), reason=reason)

    def _entities(self, world: World, kind: str, name: str, refused: Refused) -> Iterator[str]:
        """The keys of the events that plan what was refused."""
        match kind:
            case "listener":
                yield from (key_of(each) for each in world.find("listener", name, ListenerPlanned) if each == refused.planned)
            case "cluster":
                yield from (key_of(each) for each in world.find("upstream", name, UpstreamPlanned) if each == refused.planned)
            case _:
                parts = world.find("chain", kind, VirtualHostPlanned)
                yield from (key_of(part) for part in parts if refused.planned in part.rules)

    def _resources(self, kind: str) -> dict[str, bytes]:
        return self._rendered.listeners if kind == "lds" else self._rendered.clusters

    async def _resources_at_fault(self, world: World, kind: str) -> dict[tuple[str, str], Refused]:
        held, good = self._resources(kind), self.good.get(kind, {})
        new = sorted(name for name, content in held.items() if good.get(name) != content)
        said = await self._admin.refused_listeners() if kind == "lds" else {}
        reasons = {name: said[name] for name in new if name in said} or dict(await offenders(new, partial(self._judge, kind)))
        found: dict[tuple[str, str], Refused] = {}
        for name, reason in reasons.items():
            planned = world.find("listener", name, ListenerPlanned) if kind == "lds" else world.find("upstream", name, UpstreamPlanned)
            if planned:
                found[_KINDS[kind], name] = Refused(planned[0], reason)
            if name in good:
                held[name] = good[name]
            else:
                held.pop(name)
        return found

    async def _judge(self, kind: str, names: Sequence[str]) -> str:
        contents = [msgspec.Raw(self._resources(kind)[name]) for name in names]
        return await verdict(fixed(self._node, *((contents, []) if kind == "lds" else ([], contents))))

    async def _rules_at_fault(self, world: World, name: str) -> dict[tuple[str, str], Refused]:
        """Looked for in what changed first: a check of it all costs Envoy as much as all that it holds."""
        good, hosts = self._good_rules.get(name, {}), sorted(self._rendered.hosts.get(name, {}))
        new = [host for host in hosts if good.get(host) != self._rendered.rules[name, host]]
        at_fault = await offenders(new, partial(self._judge_hosts, name)) or await offenders(hosts, partial(self._judge_hosts, name))
        found: dict[tuple[str, str], Refused] = {}
        for hostname, _ in at_fault:
            rules, held = self._rendered.rules[name, hostname], good.get(hostname, [])
            judge = partial(self._judge_rules, world, name)
            for rule, reason in await offenders([rule for rule in rules if rule not in held], judge) or await offenders(rules, judge):
                plain = msgspec.structs.replace(rule, filters=(), shares=(), mirrors=(), persistence=None, retry=None)
                found[name, route_name(rule)] = Refused(rule, reason, drop=bool(await judge([plain])))
            self._rendered.refused |= found
            self._rendered.turn_host(world, name, hostname)
        return found

    async def _judge_hosts(self, name: str, hostnames: Sequence[str]) -> str:
        hosts = [msgspec.Raw(self._rendered.hosts[name][hostname]) for hostname in hostnames]
        return await verdict(fixed(self._node, [serving(route_configuration(name, hosts))], []))

    async def _judge_rules(self, world: World, name: str, rules: Sequence[ProxyRule]) -> str:
        part = next(iter(world.find("chain", name, VirtualHostPlanned)))
        some = msgspec.structs.replace(part, rules=tuple(rules), parts=1, part=0)
        host = virtual_host([some], 0, scheme_of(world, name))
        return await verdict(fixed(self._node, [serving(route_configuration(name, [host]))], []))

"""Whether a container is started, alive and ready: Kubernetes' probes, asked from the node; and, without one, whether it listens."""

import http.client
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path

from tests.cluster.api import Object
from tests.cluster.container import Container

_LISTENS, _BOUND = "0A", "07"
_UNPROBED_PERIOD_S, _UNPROBED_MOST_S = 0.02, 10


class Probe:
    """One probe of one life of a container.  holds: None until it has said something."""

    def __init__(self, spec: Object, container: Container, ports: dict[str, int], host: str) -> None:
        self._spec, self._container, self._ports, self._host = spec, container, ports, host
        self._counts = {True: 0, False: 0}
        self.holds: bool | None = None
        self.due_s = time.monotonic() + spec.get("initialDelaySeconds", 0)

    def ask(self) -> None:
        """Asks once; `holds` changes only after as many answers as the probe wants."""
        good = self._good()
        self._counts = {good: self._counts[good] + 1, not good: 0}
        if self._counts[good] >= self._spec.get("successThreshold" if good else "failureThreshold", 1 if good else 3):
            self.holds = good
        self.due_s = time.monotonic() + self._spec.get("periodSeconds", 10)

    def _good(self) -> bool:
        kind = next(kind for kind in _KINDS if kind in self._spec)
        try:
            return _KINDS[kind](self, self._spec[kind], self._spec.get("timeoutSeconds", 1))
        except (OSError, http.client.HTTPException):
            return False

    def _http(self, given: Object, timeout_s: float) -> bool:
        at = (given.get("host") or self._host, self._port(given["port"]))
        unverified = ssl._create_unverified_context()
        secure = given.get("scheme") == "HTTPS"
        connection = (
            http.client.HTTPSConnection(*at, timeout=timeout_s, context=unverified)
            if secure
            else http.client.HTTPConnection(*at, timeout=timeout_s)
        )
        headers = {one["name"]: one["value"] for one in given.get("httpHeaders", ())}
        try:
            connection.request("GET", given.get("path", "/"), headers={"User-Agent": "kube-probe/1.36", "Connection": "close", **headers})
            return 200 <= connection.getresponse().status < 400
        finally:
            connection.close()

    def _tcp(self, given: Object, timeout_s: float) -> bool:
        with socket.create_connection((given.get("host") or self._host, self._port(given["port"])), timeout=timeout_s):
            return True

    def _exec(self, given: Object, timeout_s: float) -> bool:
        return self._container.execute(given["command"], timeout_s)

    def _port(self, named: int | str) -> int:
        return self._ports[named] if isinstance(named, str) else named


class Unprobed(Probe):
    """Of a container without a readiness probe: ready when it listens on what it says it does, or after a while anyway."""

    def __init__(self, container: Container, spec: Object) -> None:
        super().__init__({}, container, {}, "")
        self._wanted = {(one.get("protocol", "TCP"), one["containerPort"]) for one in spec.get("ports", ())}
        self._until_s = time.monotonic() + _UNPROBED_MOST_S

    def ask(self) -> None:
        self.holds = self._wanted <= _listening(self._container.pid) or time.monotonic() > self._until_s
        self.due_s = time.monotonic() + (float("inf") if self.holds else _UNPROBED_PERIOD_S)


def _listening(pid: int) -> set[tuple[str, int]]:
    """Protocols and ports that somebody in the network namespace of a process listens on."""
    found = set()
    for protocol, state in (("TCP", _LISTENS), ("UDP", _BOUND)):
        for family in ("", "6"):
            try:
                lines = Path(f"/proc/{pid}/net/{protocol.lower()}{family}").read_text().splitlines()[1:]
            except OSError:
                continue
            fields = (line.split() for line in lines)
            found |= {(protocol, int(field[1].rpartition(":")[2], 16)) for field in fields if field[3] == state}
    return found


_KINDS: dict[str, Callable[[Probe, Object, float], bool]] = {"httpGet": Probe._http, "tcpSocket": Probe._tcp, "exec": Probe._exec}

"""One container of a pod over all its lives: started, probed, started again, ended."""

import subprocess
import time
from collections.abc import Callable, Mapping

import msgspec

from tests.cluster.api import Object
from tests.cluster.container import Container, Pod
from tests.cluster.probes import Probe, Unprobed

NEVER_S = float("inf")
_AGAIN_FIRST_S, _AGAIN_MOST_S = 0.2, 5.0
_FATAL = ("startupProbe", "livenessProbe")


class Ground(msgspec.Struct, frozen=True):
    """What a pod's containers have in common.  environment: by container; host: where probes go; ended: called after each life."""

    pod: Pod
    environment: Mapping[str, Mapping[str, str]]
    host: str
    ended: Callable[[], None]


class Held:
    """restarts: lives begun but for the first.   again_s: when the next begins; NEVER_S when there is none, 0 while one lasts."""

    def __init__(self, spec: Object, pod: Object, *, initial: bool = False) -> None:
        """initial: an init container."""
        self.spec, self.initial = spec, initial
        self.name: str = spec["name"]
        self.sidecar = initial and spec.get("restartPolicy") == "Always"
        self.restarts = -1
        self.current: Container | None = None
        self.again_s = 0.0
        self.waiting = ("ContainerCreating" if not initial else "PodInitializing", "")
        self._probes: dict[str, Probe] = {}
        self._policy = "Always" if self.sidecar else pod["spec"].get("restartPolicy", "Always")
        if initial and not self.sidecar and self._policy == "Always":
            self._policy = "OnFailure"
        self._grace_s = float(pod["spec"].get("terminationGracePeriodSeconds", 30))

    @property
    def running(self) -> bool:
        return self.current is not None and self.current.code is None

    @property
    def code(self) -> int | None:
        return self.current.code if self.current else None

    @property
    def started(self) -> bool:
        return self.running and (not (probe := self._probes.get("startupProbe")) or bool(probe.holds))

    @property
    def ready(self) -> bool:
        return self.started and bool(self._probes["readinessProbe"].holds)

    @property
    def done(self) -> bool:
        """Init: the next may start.   Others: it has ended and stays so."""
        if self.initial:
            return self.started if self.sidecar else self.code == 0
        return self.again_s == NEVER_S

    def tend(self, ground: Ground) -> None:
        """Starts it where it should run, and asks the probes that are due."""
        if not self.running:
            if self._due():
                self._start(ground)
            return
        self.probe()
        if any(self._probes[kind].holds is False for kind in _FATAL if kind in self._probes):
            self.end(self._grace_s)

    def probe(self) -> None:
        """Asks those that are due; before it has started only whether it has."""
        for kind, probe in self._probes.items():
            if self.running and probe.due_s <= time.monotonic() and (kind == "startupProbe" or self.started):
                probe.ask()

    def next_s(self) -> float:
        """When there is something to do again, on the monotonic clock."""
        return min((probe.due_s for probe in self._probes.values()), default=NEVER_S) if self.running else self.again_s or NEVER_S

    def end(self, grace_s: float) -> None:
        """preStop, SIGTERM, and SIGKILL when the grace is over.  Returns when it has ended."""
        if not (current := self.current):
            return
        until_s = time.monotonic() + grace_s
        hook = self.spec.get("lifecycle", {}).get("preStop", {})
        if grace_s and "sleep" in hook:
            current.wait(min(hook["sleep"]["seconds"], grace_s))
        elif grace_s and "exec" in hook:
            current.execute(hook["exec"]["command"], grace_s)
        current.terminate()
        current.wait(max(until_s - time.monotonic(), 0))
        current.kill()

    def _start(self, ground: Ground) -> None:
        environment = ground.environment[self.name]
        try:
            self.current = Container(ground.pod, self.spec, environment, ground.ended)
        except (KeyError, OSError, subprocess.SubprocessError) as error:
            self.waiting = ("ErrImagePull", f"{self.spec['image']}: {error!r}")
            self.again_s = time.monotonic() + _AGAIN_MOST_S
            return
        self.restarts += 1
        self.again_s = 0.0
        ports = {one["name"]: one["containerPort"] for one in self.spec.get("ports", ()) if "name" in one}
        kinds = [kind for kind in (*_FATAL, "readinessProbe") if kind in self.spec]
        self._probes = {kind: Probe(self.spec[kind], self.current, ports, ground.host) for kind in kinds}
        self._probes.setdefault("readinessProbe", Unprobed(self.current, self.spec))

    def _due(self) -> bool:
        """Whether it starts now: at once the first time, then by its policy, after a while that grows."""
        if self.current and not self.again_s:
            if self._policy == "Never" or (self._policy == "OnFailure" and self.code == 0):
                self.again_s = NEVER_S
            else:
                self.again_s = time.monotonic() + min(_AGAIN_FIRST_S * 2**self.restarts, _AGAIN_MOST_S)
        return self.again_s <= time.monotonic()

"""The life of one pod on its node, told from top to bottom on a thread of its own; everything that happens to it comes by its queue."""

import contextlib
import http.client
import queue
import shutil
import threading
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from tests.cluster import container
from tests.cluster.api import Api, ApiError, Object
from tests.cluster.held import Ground, Held
from tests.cluster.network import Plugged, Ranges
from tests.cluster.status import pod_status
from tests.cluster.volumes import NotYet, Volumes

RETRY_S = 0.2
_MOST_S, _STOPPING_S = 3600.0, 0.05


class Place(msgspec.Struct, frozen=True):
    """What a pod is told of its node.

    addresses: of the node, IPv4 first; folder: of its files; bpf: its BPF file system; environment: of every container.
    """

    cluster: str
    node: str
    addresses: tuple[str, ...]
    folder: Path
    bpf: Path
    environment: dict[str, str]
    ranges: Ranges

    def pod_folder(self, namespace: str, name: str) -> Path:
        return self.folder / "pods" / namespace / name


class Life(threading.Thread):
    """A pod from its binding to its removal from the API."""

    def __init__(self, api: Api, pod: Object, place: Place) -> None:
        meta = pod["metadata"]
        super().__init__(name=f"{meta['namespace']}/{meta['name']}", daemon=True)
        self._api, self._pod, self._place = api, pod, place
        self._spec: Object = pod["spec"]
        self._path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
        self._queue: queue.Queue[Object | None] = queue.Queue()
        self._folder = place.pod_folder(meta["namespace"], meta["name"])
        self._plugged: Plugged | None = None
        self._inits = [Held(spec, pod, initial=True) for spec in self._spec.get("initContainers", ())]
        self._mains = [Held(spec, pod) for spec in self._spec["containers"]]
        self._told: Object = {}
        self._untold = False
        self._gone = False

    def happened(self, pod: Object | None) -> None:
        """The pod as it is now in the API, empty where only the pod itself has news; None where the API has it no more."""
        self._queue.put(pod)

    def run(self) -> None:
        try:
            if (ground := self._begin()) and self._initialise(ground):
                self._follow(ground)
            self._stop()
        finally:
            if self._plugged:
                self._place.ranges.unplug(self._plugged)
            shutil.rmtree(self._folder, ignore_errors=True)
        self._forget()

    # ── the parts of a life ────────────────────────────────────────────────────────────────────────────────────────

    def _begin(self) -> Ground | None:
        """Network, volumes, environment; None where the pod was deleted before they came about."""
        self._folder.mkdir(parents=True, exist_ok=True)
        meta = self._pod["metadata"]
        if not self._spec.get("hostNetwork"):
            self._plugged = self._place.ranges.plug(f"{self._place.cluster}-pod-{meta['namespace']}-{meta['name']}")
        volumes = Volumes(self._api, self._pod, self._folder, self._place.folder, self._place.bpf)
        while not self._ending():
            try:
                return self._ground(volumes)
            except (NotYet, NotImplementedError, ApiError, OSError, http.client.HTTPException) as error:
                for held in (*self._inits, *self._mains):
                    held.waiting = ("CreateContainerConfigError", str(error))
            self._tell()
            self._hear(RETRY_S)
        return None

    def _ground(self, volumes: Volumes) -> Ground:
        addresses = self._addresses()
        known = {"status.podIP": addresses[0], "status.podIPs": ",".join(addresses), "status.hostIP": self._place.addresses[0]}
        environments = {
            held.name: {**self._place.environment, **volumes.environment(held.spec, known)} for held in (*self._inits, *self._mains)
        }
        pod = container.Pod(
            name=self._pod["metadata"]["name"],
            space=self._pod["metadata"]["namespace"],
            folder=self._folder,
            namespace=self._plugged.path if self._plugged else None,
            volumes=volumes.make(),
            spec=self._spec,
            dns=self._place.addresses[0],
        )
        return Ground(pod, environments, addresses[0], lambda: self.happened({}))

    def _initialise(self, ground: Ground) -> bool:
        """Init containers one after another, each until it is done."""
        for held in self._inits:
            while not self._ending():
                held.tend(ground)
                self._tell()
                if held.done:
                    break
                self._hear(_wait_s([held]))
        return not self._ending()

    def _follow(self, ground: Ground) -> None:
        """Keeps the containers running until the pod is deleted; sidecars end when all the others have for good."""
        sidecars = [held for held in self._inits if held.sidecar]
        while not self._ending():
            over = all(held.done for held in self._mains)
            for held in self._mains if over else (*sidecars, *self._mains):
                held.tend(ground)
            if over:
                _end_all(sidecars, 0)
            self._tell()
            self._hear(_wait_s([*sidecars, *self._mains]))

    def _stop(self) -> None:
        """Ends what runs within the pod's grace; as long as that lasts it says whether it is ready."""
        grace_s = 0.0 if self._gone else float(self._pod["metadata"].get("deletionGracePeriodSeconds") or 0)
        ending = threading.Thread(target=_end_all, args=([*self._mains, *self._inits], grace_s))
        ending.start()
        while ending.is_alive():
            for held in self._mains:
                held.probe()
            self._tell()
            self._hear(_STOPPING_S)

    def _forget(self) -> None:
        """The kubelet's last word: only now is the pod gone from the API."""
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": self._pod["metadata"]["uid"]}}
        while not self._gone:
            with contextlib.suppress(OSError, http.client.HTTPException):
                try:
                    self._api.delete(self._path, body)
                except ApiError as error:
                    if error.code not in (http.client.NOT_FOUND, http.client.CONFLICT):
                        raise
                return
            time.sleep(RETRY_S)

    # ── what happens, and what is told of it ───────────────────────────────────────────────────────────────────────

    def _hear(self, most_s: float) -> None:
        """Waits for something to happen, and takes in all that has."""
        with contextlib.suppress(queue.Empty):
            self._take(self._queue.get(timeout=min(most_s, RETRY_S) if self._untold else most_s))
            while True:
                self._take(self._queue.get_nowait())

    def _take(self, pod: Object | None) -> None:
        self._gone |= pod is None
        self._pod = pod or self._pod

    def _ending(self) -> bool:
        return self._gone or "deletionTimestamp" in self._pod["metadata"]

    def _addresses(self) -> tuple[str, ...]:
        return self._plugged.addresses if self._plugged else self._place.addresses

    def _tell(self) -> None:
        """Writes the status where it has changed; one that the server did not take is tried again."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        status = pod_status(self._pod, self._inits, self._mains, self._addresses(), self._place.addresses, now)
        self._untold = status != self._told and not self._gone
        if self._untold:
            with contextlib.suppress(ApiError, OSError, http.client.HTTPException):
                self._pod = self._api.patch(f"{self._path}/status", {"status": status}, "strategic-merge-patch")
                self._told, self._untold = status, False


def _end_all(helds: Iterable[Held], grace_s: float) -> None:
    """At once, and returns when all have ended."""
    threads = [threading.Thread(target=held.end, args=(grace_s,)) for held in helds if held.running]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _wait_s(helds: Iterable[Held]) -> float:
    return max(min([held.next_s() for held in helds] + [time.monotonic() + _MOST_S]) - time.monotonic(), 0.001)

"""A Kubernetes cluster as a source: each kind listed once, then watched.

A closed watch resumes at its last resourceVersion.  On 410 Gone the kind is relisted, and only differences are passed on.  Of an object
that changed several times between two observations, only the last state is passed on.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
import structlog

from services.watcher.inventory import Observation
from services.watcher.kinds.annotations import TAKEN
from services.watcher.kinds.kind import Kind
from services.watcher.kinds.reader import Document
from services.watcher.kinds.registry import KINDS
from services.watcher.kinds.seen import Seen
from services.watcher.sources.api import UNREACHABLE, Api, ApiError, ConfigError, configured
from services.watcher.sources.bundles import reduced
from weir.words import few

PAGE: Final = 500
SMALL: Final = 4  # objects whose reading takes no time worth a thread
RETRY_FIRST_S, RETRY_MOST_S = 0.1, 4.0
QUICK_S: Final = 1.0  # a watch that ends sooner is not resumed at once
ABSENT_S: Final = 10.0  # how often a kind that is not installed is looked for

log = structlog.get_logger()


class _ListMeta(msgspec.Struct):
    resourceVersion: str = ""  # noqa: N815
    next: str = msgspec.field(default="", name="continue")


class _List(msgspec.Struct):
    metadata: _ListMeta
    items: list[msgspec.Raw] | None = None


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Code(msgspec.Struct):
    code: int = 0
    reason: str = ""
    message: str = ""


_LIST: Final = msgspec.json.Decoder(_List).decode
_EVENT: Final = msgspec.json.Decoder(_Event).decode
_CODE: Final = msgspec.json.Decoder(_Code).decode
_SEEN: Final = msgspec.json.Decoder(Seen).decode
_GONE: Final = 410

Units = dict[str, tuple[Document, ...] | None]


class Listener(Protocol):
    """What is notified of objects that Weir writes to."""

    def follows(self, cluster: "Kube") -> None:
        """A cluster is going to be followed."""

    def changed(self, cluster: "Kube", kind: str, namespace: str, name: str) -> None:
        """An object changed in its cluster."""

    def listed(self, cluster: "Kube") -> None:
        """All objects of the cluster are known, or those of one kind more."""


class Kube:
    """One cluster.

    seen: objects that Weir writes to, by unit.   absent: kinds that are not installed there.
    listener: is notified of changes to these.
    source: its name in the log, "" for the home cluster; set before it runs.
    Units are named `@CLUSTER/Service/shop/web`.
    """

    api: Api

    def __init__(self, name: str, kubeconfig: Path | None, listener: Listener | None = None, *, tls: bool = True) -> None:
        """kubeconfig: None in a pod.   tls: whether kinds that are read for TLS alone are followed; else there are none."""
        self.name, self.source = name, ""
        self._kubeconfig, self._tls = kubeconfig, tls
        self.scope = f"@{name}"
        self.seen: dict[str, Seen] = {}
        self.absent: set[str] = set()
        self._listener = listener
        self._versions: dict[str, dict[str, str]] = {kind.word: {} for kind in KINDS}  # kind -> unit -> its resourceVersion
        self._changed: Units = {}
        self._something = asyncio.Event()
        self.apis = {kind.word: kind.api for kind in KINDS}  # kind -> the apiVersion that it is followed in
        self._unlisted = {kind.word for kind in KINDS}
        self._lost: dict[str, str] = {}  # kind -> why it cannot be followed now
        if listener:
            listener.follows(self)
        self._found_again = False  # while some could not be followed, the log may have lost what did not change here

    def unit(self, kind: str, namespace: str, name: str) -> str:
        """The unit of the object."""
        return f"{self.scope}/{kind}/{namespace}/{name}" if namespace else f"{self.scope}/{kind}/{name}"

    def saw(self, kind: Kind, raw: bytes) -> Seen:
        """Take an object from the answer to a write.  It may come before the watch shows it, or after the watch showed its end."""
        seen = _SEEN(raw)
        unit = self.unit(kind.word, seen.metadata.namespace, seen.metadata.name)
        held = self.seen.get(unit)
        overtaken = held is not None and _is_older(seen, held)
        if not overtaken and (unit in self._versions[kind.word] or not seen.metadata.deletionTimestamp):
            self._keep(kind, unit, seen)
        return seen

    @property
    def complete(self) -> bool:
        """Whether every kind has been listed."""
        return not self._unlisted

    @property
    def lost(self) -> int:
        """How many installed kinds cannot be followed now."""
        return len(self._lost.keys() - self.absent)

    @property
    def unseen(self) -> str:
        """What cannot be seen of the cluster now, and why, in words; "" for nothing."""
        lost = sorted(self._lost.keys() - self.absent)
        kinds = lost or sorted(self._unlisted)
        if not kinds:
            return ""
        why = self._lost[lost[0]] if lost else "not listed yet"
        return f"cluster {self.name}: cannot see {few(kinds)}: {why}"

    async def run(self, _: object) -> None:
        """Follow every kind, without end."""
        self.api = Api(await configured(self._kubeconfig))
        async with asyncio.TaskGroup() as group:
            for kind in KINDS:
                if kind.tls and not self._tls:
                    self.not_installed(kind)
                else:
                    group.create_task(self._follow(kind))

    async def __aiter__(self) -> AsyncIterator[Observation[Document]]:
        """Yield everything once every kind has been listed; then changes, batched as they come."""
        while self._unlisted:
            await self._some()
        self._found_again = False
        yield Observation(self._take(), complete=True, scope=self.scope)
        while True:
            await self._some()
            again, self._found_again = self._found_again, False
            if (units := self._take()) or again:
                yield Observation(units, small=len(units) <= SMALL and not again, whole=again, scope=self.scope)

    async def _some(self) -> None:
        await self._something.wait()
        self._something.clear()

    def _take(self) -> Units:
        units, self._changed = self._changed, {}
        return units

    async def log_in(self) -> None:
        """Read the credentials again, as those of a kubeconfig may have expired.  An error is reported by the next request."""
        with contextlib.suppress(ConfigError):
            self.api.use(await configured(self._kubeconfig))

    # ── list and watch ─────────────────────────────────────────────────────────────────────────────────────────────

    async def _follow(self, kind: Kind) -> None:
        version, retry_s = "", RETRY_FIRST_S
        while True:
            try:
                if not version:
                    version = await self._list(kind)
                begun_s = asyncio.get_running_loop().time()
                async for line in self.api.watch(self.path(kind), version):
                    self.reached(kind)
                    if line:
                        version = self._event(kind, line) or version
                        retry_s = RETRY_FIRST_S
                if asyncio.get_running_loop().time() - begun_s > QUICK_S:
                    continue  # the server closed it in good order
            except ApiError as error:
                if error.code == _GONE:
                    version = ""
                    log.info("watch_expired", cluster=self.name, kind=kind.word)
                elif error.code == 404 and kind.optional:  # for other kinds only a proxy answers so
                    version = ""
                    if self._next_version(kind):
                        continue
                    self.not_installed(kind)
                    retry_s = ABSENT_S
                elif error.code == 401:
                    await self.log_in()
                self.unreachable(kind, str(error))
            except msgspec.MsgspecError as error:  # the change in that line is lost with it
                version = ""
                self.unreachable(kind, f"not understood: {error}")
            except (ConfigError, *UNREACHABLE) as error:
                self.unreachable(kind, f"{type(error).__name__} {error}".strip())
            await asyncio.sleep(retry_s * random.uniform(0.5, 1.0))
            retry_s = min(retry_s * 2, RETRY_MOST_S) if retry_s < ABSENT_S else RETRY_FIRST_S

    def path(self, kind: Kind, namespace: str = "", name: str = "", part: str = "") -> str:
        """The path of an object of this kind, in the version that it is followed in."""
        return kind.path(namespace, name, part, api=self.apis[kind.word])

    def _next_version(self, kind: Kind) -> bool:
        """Follow the kind in its next version; False where that was the last, and the first is next."""
        number = kind.apis.index(self.apis[kind.word]) + 1
        self.apis[kind.word] = kind.apis[number % len(kind.apis)]
        return number < len(kind.apis)

    async def _list(self, kind: Kind) -> str:
        """List all objects of a kind, page by page; unchanged ones are skipped.  Returns the version to watch from."""
        after, found = "", set[str]()
        while True:
            page = _LIST(await self.api.get(self.path(kind), limit=PAGE, **({"continue": after} if after else {})))
            for raw in page.items or ():
                found.add(self._object(kind, raw))
            after = page.metadata.next
            if not after:
                break
        for unit in self._versions[kind.word].keys() - found:
            self._drop(kind, unit)
        self.reached(kind)
        self.known(kind)
        return page.metadata.resourceVersion

    def _event(self, kind: Kind, line: bytes) -> str:
        """Take one event of a watch; return its resourceVersion.  Raises ApiError for an ERROR event."""
        event = _EVENT(line)
        if event.type == "ERROR":
            status = _CODE(event.object)
            raise ApiError(status.code, status.reason, status.message)
        meta = _SEEN(event.object).metadata
        if event.type == "DELETED":
            self._drop(kind, self.unit(kind.word, meta.namespace, meta.name))
        elif event.type != "BOOKMARK":
            self._object(kind, event.object)
        return meta.resourceVersion

    def _object(self, kind: Kind, raw: msgspec.Raw) -> str:
        seen = _SEEN(raw)
        unit = self.unit(kind.word, seen.metadata.namespace, seen.metadata.name)
        versions = self._versions[kind.word]
        if versions.get(unit) == seen.metadata.resourceVersion:
            return unit
        versions[unit] = seen.metadata.resourceVersion
        if kind.decode:
            self._change(unit, (self._document(unit, kind, kind.decode(raw)),))
        if kind.kept:
            self._keep(kind, unit, seen)
        return unit

    def _document(self, unit: str, kind: Kind, content: dict[str, Any]) -> Document:
        """The object with the fields that are read; annotations of others may contain anything, and are dropped."""
        metadata = content.get("metadata", {})
        if isinstance(annotations := metadata.get("annotations"), Mapping):
            metadata["annotations"] = {name: text for name, text in annotations.items() if name.startswith(TAKEN)}
        return Document(unit, reduced(content | {"apiVersion": self.apis[kind.word], "kind": kind.word}), source=self.source)

    def _keep(self, kind: Kind, unit: str, seen: Seen) -> None:
        """Keep the newer of what is known and `seen`: versions are comparable numbers (KEP-5504); any other is taken as newer."""
        held = self.seen.get(unit)
        if held and held.metadata.uid == seen.metadata.uid and _is_older(seen, held):
            return
        self.seen[unit] = msgspec.structs.replace(seen, status=msgspec.Raw(bytes(seen.status)))
        self._look(kind, seen)

    def _drop(self, kind: Kind, unit: str) -> None:
        if self._versions[kind.word].pop(unit, None) is not None and kind.decode:
            self._change(unit, None)
        if seen := self.seen.pop(unit, None):
            self._look(kind, seen)

    def _change(self, unit: str, documents: tuple[Document, ...] | None) -> None:
        self._changed[unit] = documents
        self._something.set()

    def _look(self, kind: Kind, seen: Seen) -> None:
        if self._listener:
            self._listener.changed(self, kind.word, seen.metadata.namespace, seen.metadata.name)

    def known(self, kind: Kind) -> None:
        """Note that all objects of a kind are known."""
        new = kind.word in self._unlisted | self.absent
        self.absent.discard(kind.word)
        self._unlisted.discard(kind.word)
        self._something.set()
        if new and self.complete and self._listener:
            self._listener.listed(self)

    def not_installed(self, kind: Kind) -> None:
        """Note that a kind is not installed: it has no objects."""
        for unit in list(self._versions[kind.word]):
            self._drop(kind, unit)
        if kind.word not in self.absent:
            self.known(kind)
        self.absent.add(kind.word)

    def unreachable(self, kind: Kind, why: str) -> None:
        """Mark a kind as unavailable."""
        if self._lost.get(kind.word) != why:
            self._lost[kind.word] = why
            log.warning("api_lost", cluster=self.name, kind=kind.word, reason=why)

    def reached(self, kind: Kind) -> None:
        """Mark a kind as available."""
        if self._lost.pop(kind.word, ""):
            log.info("api_found", cluster=self.name, kind=kind.word)
            if not self.lost:
                self._found_again = True
                self._something.set()


def _is_older(seen: Seen, than: Seen) -> bool:
    """Or the same."""
    old, new = seen.metadata.resourceVersion, than.metadata.resourceVersion
    return old.isdecimal() and new.isdecimal() and int(old) <= int(new)

"""Kubernetes Events: each is kept until the API has it."""

import hashlib

import msgspec

from services.watcher.kinds.kind import Kind
from services.watcher.kinds.seen import Seen
from services.watcher.sources.api import ApiError
from services.watcher.sources.kube import Kube
from services.watcher.writer.queue import Target
from services.watcher.writer.status import Json, Note


class NotTold(Exception):
    """The API refuses an Event, as it does by an admission policy; it may take it later."""


class Notes:
    """Of all Services, each in the order it came up, and once."""

    def __init__(self) -> None:
        self._untold: dict[Target, dict[Note, None]] = {}

    def add(self, target: Target, *notes: Note) -> None:
        """To be told with the next `tell`."""
        if notes:
            self._untold.setdefault(target, {}).update(dict.fromkeys(notes))

    def forget(self, target: Target) -> None:
        """There is nothing any more that it could be told about."""
        self._untold.pop(target, None)

    async def tell(self, cluster: Kube, kind: Kind, target: Target, seen: Seen, now: str) -> None:
        """Raises NotTold, ApiError or UNREACHABLE, and the rest is told with the next call.   now: RFC 3339."""
        untold = self._untold.get(target, {})
        while untold:
            note = next(iter(untold))
            try:
                await _tell(cluster, kind, seen, note, now)
            except ApiError as error:
                if error.code in (400, 422):
                    raise NotTold(f"Event {note.reason}: {error}") from error
                raise
            untold.pop(note, None)
        self.forget(target)


async def _tell(cluster: Kube, kind: Kind, seen: Seen, note: Note, now: str) -> None:
    """The same one again within the hour is counted, not repeated."""
    meta = seen.metadata
    digest = hashlib.blake2b(f"{meta.uid}{note.reason}{note.words}".encode(), digest_size=8).hexdigest()
    name = f"{meta.name[:230]}.{digest}"
    about = {"apiVersion": cluster.apis[kind.word], "kind": kind.word, "name": meta.name, "namespace": meta.namespace, "uid": meta.uid}
    severity = "Warning" if note.warning else "Normal"
    words: Json = {"reason": note.reason, "message": note.words, "type": severity, "source": {"component": "weir"}, "lastTimestamp": now}
    body = {"apiVersion": "v1", "kind": "Event", "involvedObject": about, "firstTimestamp": now, "count": 1, **words}
    namespace = meta.namespace or "default"  # where Events about objects without a namespace are
    path = f"/api/v1/namespaces/{namespace}/events"
    try:
        await cluster.api.create(path, body | {"metadata": {"name": name, "namespace": namespace}})
    except ApiError as error:
        if error.code != 409:
            raise
        before = msgspec.json.decode(await cluster.api.get(f"{path}/{name}"))
        await cluster.api.merge(f"{path}/{name}", {"count": before.get("count", 1) + 1, "lastTimestamp": now})

"""Kubernetes Events: each is kept until the API has it."""

import hashlib

import msgspec

from services.watcher.kinds.kind import Kind
from services.watcher.kinds.seen import Seen
from services.watcher.sources.api import ApiError
from services.watcher.sources.kube import Kube
from services.watcher.writer.queue import Target
from services.watcher.writer.status import Json, Note


class NotAccepted(Exception):
    """The API refuses an Event, for example by an admission policy; it may accept it later."""


class Notes:
    """Kubernetes Events about all objects, in order, each once."""

    def __init__(self) -> None:
        self._queued: dict[Target, dict[Note, None]] = {}
        self._standing: dict[Target, tuple[Note, ...]] = {}

    def add(self, target: Target, *notes: Note) -> None:
        """Queue Events for the next `send`."""
        if notes:
            self._queued.setdefault(target, {}).update(dict.fromkeys(notes))

    def stand(self, target: Target, notes: tuple[Note, ...]) -> None:
        """Queue those of `notes`, which are all that hold now, that did not hold at the last call."""
        held = self._standing.pop(target, ())
        self.add(target, *(note for note in notes if note not in held))
        if notes:
            self._standing[target] = notes

    def forget(self, target: Target) -> None:
        """Drop the Events about an object that is gone."""
        self._queued.pop(target, None)
        self._standing.pop(target, None)

    async def send(self, cluster: Kube, kind: Kind, target: Target, seen: Seen, now: str) -> None:
        """Send what is queued.  Raises NotAccepted, ApiError or UNREACHABLE; the rest is sent by the next call.   now: RFC 3339."""
        queued = self._queued.get(target, {})
        while queued:
            note = next(iter(queued))
            try:
                await _send(cluster, kind, seen, note, now)
            except ApiError as error:
                if error.code in (400, 422):
                    raise NotAccepted(f"Event {note.reason}: {error}") from error
                raise
            queued.pop(note, None)
        self._queued.pop(target, None)


async def _send(cluster: Kube, kind: Kind, seen: Seen, note: Note, now: str) -> None:
    """Create the Event; the same one again is counted."""
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

"""What every event has: its author, its entity, its tag."""

from typing import ClassVar

import msgspec

from weir.events.subjects import entity_of_object, token
from weir.model import Root


class Event(msgspec.Struct, frozen=True, tag_field="type", omit_defaults=True, gc=False):
    """An event.  Past tense, immutable, true forever."""

    author: ClassVar[str]  # the service that states it
    kind: ClassVar[str]  # of the entity
    gone: ClassVar[bool] = False  # the entity is no more: nothing of it is kept in a fold

    def entity(self) -> tuple[str, str]:
        """Namespace ("" where there is none) and name of the entity."""
        raise TypeError(f"{type(self).__name__} names no entity")

    def summary(self) -> str:
        """Say in one line what the event states, for `weir log`; its type and time are shown beside it."""
        return "/".join(filter(None, self.entity()))


class ObjectEvent(Event, frozen=True, kw_only=True):
    """An event about one object that the watcher follows."""

    author: ClassVar[str] = "watcher"
    root: Root

    def entity(self) -> tuple[str, str]:
        return entity_of_object(self.root)

    def summary(self) -> str:
        return f"{self.stated()}  ({self.root.place})" if self.root.place else self.stated()

    def stated(self) -> str:
        """Say in one line what is observed, without where."""
        return self.root.path


def tag_of(kind: type[Event]) -> str:
    """The type as the log writes it."""
    return str(kind.__struct_config__.tag)


def author_of(event: Event) -> str:
    """The author's token: the service, and the node where it runs per node, so that two nodes never share a subject."""
    if node := getattr(event, "node", ""):
        return f"{event.author}-{token(node)}"
    return event.author or getattr(event, "writer", "")


def key_of(event: Event) -> str:
    """The entity's key: its subject without `weir.<cluster>.`."""
    namespace, name = event.entity()
    return f"{author_of(event)}.{event.kind}.{token(namespace)}.{token(name)}"

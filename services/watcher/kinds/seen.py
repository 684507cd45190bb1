"""An object as the API last showed it, as far as a writer needs it."""

import msgspec


class OwnerReference(msgspec.Struct):
    """What it is collected with."""

    uid: str = ""


class Meta(msgspec.Struct):
    """What identifies an object and its version."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resourceVersion: str = ""  # noqa: N815  the API's own name
    finalizers: tuple[str, ...] = ()
    ownerReferences: tuple[OwnerReference, ...] = ()  # noqa: N815
    deletionTimestamp: str = ""  # noqa: N815


class Seen(msgspec.Struct):
    """The object; its status undecoded."""

    metadata: Meta
    status: msgspec.Raw = msgspec.Raw(b"{}")

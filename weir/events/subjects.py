"""Subjects of the log: how names become tokens, and the key of an entity."""

from functools import lru_cache

from weir.model import Root

_ESCAPES = {code: f"={code:02X}" for code in range(128) if not (chr(code).isalnum() or chr(code) == "-")}


@lru_cache(maxsize=4096)  # the same names come several times in a row
def token(text: str) -> str:
    """`text` as one subject token: letters, digits and `-` stay, "" is `_`, all else becomes `=HH` per UTF-8 byte."""
    if not text.isascii():
        return "".join(token(c) if c.isascii() else "".join(f"={b:02X}" for b in c.encode()) for c in text)
    return text.translate(_ESCAPES) or "_"


def untoken(text: str) -> str:
    """The inverse of `token`."""
    if text == "_":
        return ""
    return bytes.fromhex("".join(_hex(part, first=i == 0) for i, part in enumerate(text.split("=")))).decode()


def _hex(part: str, *, first: bool) -> str:
    return part.encode().hex() if first else part[:2] + part[2:].encode().hex()


def entity_of_object(root: Root) -> tuple[str, str]:
    """Namespace and name of an object as subjects have them: the source stands before the namespace, or the name where there is none."""
    return (root.space, root.name) if root.namespace else ("", root.path)


def entity_for_object(root: Root) -> tuple[str, str]:
    """Namespace and name of what is planned for an object: its name stands behind its kind, so that no two objects meet."""
    namespace, name = entity_of_object(root)
    return namespace, f"{root.kind}:{name}"


def object_key(owner: str) -> str:
    """The key under which the watcher records the object that `owner` names ("Service/shop/web")."""
    kind, _, path = owner.partition("/")
    namespace, _, name = path.rpartition("/")
    return key("watcher", kind.lower(), namespace, name)


def status_key(owner: str) -> str:
    """The key under which the planner plans the status of an owner ("Service/shop/web")."""
    kind, _, path = owner.partition("/")
    namespace, _, name = path.rpartition("/")
    return key("planner", "status", namespace, f"{kind}:{name}")


def record_key(owner: str) -> str:
    """The key of the LBService that keeps the VIPs of a Service."""
    return object_key(f"LBService/{owner.partition('/')[2]}")


def key(author: str, kind: str, namespace: str, name: str) -> str:
    """The key of an entity known by name, as `key_of` gives it."""
    return f"{author}.{kind}.{token(namespace)}.{token(name)}"

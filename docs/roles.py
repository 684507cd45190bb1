"""The rights of the watcher on the Kubernetes API, from the kinds that it follows and writes: those of every installation, and of TLS."""

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from services.watcher.kinds.kind import LIST_AND_WATCH
from services.watcher.kinds.registry import KINDS

HEAD = """\
# Made by `make docs` from services/watcher/kinds: change it there.  Of a Service RBAC grants more than the watcher needs: the policy
# in watcher.yaml narrows that to its finalizers, and to Services of Gateways.
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: weir-watcher}
rules:
"""


TLS_HEAD = """\
# Made by `make docs` from services/watcher/kinds: change it there.  What the watcher reads for TLS; of a Secret the log gets a digest.
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: weir-watcher-tls}
rules:
"""


class Rule(NamedTuple):
    """One rule of the role."""

    group: str
    verbs: tuple[str, ...]
    resources: tuple[str, ...]


def rules(*, tls: bool = False) -> Iterator[Rule]:
    """Every kind is followed; some are written, as objects or by their status.  Kubernetes Events are written about them.

    tls: those on kinds that are read for TLS alone, or those on all others.
    """
    found: defaultdict[tuple[int, str, tuple[str, ...]], list[str]] = defaultdict(list)
    for kind in (kind for kind in KINDS if kind.tls == tls):
        found[0, kind.group, LIST_AND_WATCH].append(kind.plural)
        if kind.kept:
            found[1, kind.group, ("patch",)].append(f"{kind.plural}/status")
        if kind.verbs:
            found[2, kind.group, kind.verbs].append(kind.plural)
    if not tls:
        found[2, "", ("create", "get", "patch")].append("events")
    for (_, group, verbs), resources in sorted(found.items()):
        yield Rule(group, verbs, tuple(sorted(resources)))


def role_page() -> str:
    """deploy/base/watcher-role.yaml."""
    return HEAD + "".join(map(_line, rules()))


def tls_role_page() -> str:
    """deploy/components/proxy/watcher-role.yaml."""
    return TLS_HEAD + "".join(map(_line, rules(tls=True)))


def _line(rule: Rule) -> str:
    group = rule.group or '""'
    return f"  - {{apiGroups: [{group}], resources: [{', '.join(rule.resources)}], verbs: [{', '.join(rule.verbs)}]}}\n"

"""LBNode: the state of one LB node, for people.  Weir writes it and reads nothing of it; deleting it retires the node."""

from typing import Final

from services.watcher.kinds.kind import Kind
from services.watcher.kinds.schema import CONDITIONS, fields, of_kind
from services.watcher.writer.lbnode import STATUS

LBNODE: Final = Kind(
    word="LBNode",
    plural="lbnodes",
    group="weir.dev",
    versions=("v1alpha1",),
    namespaced=False,
    optional=True,
    status=STATUS,
    verbs=("create", "patch", "delete"),
    fields=of_kind(status=fields("hook interfaces", conditions=CONDITIONS)),
)

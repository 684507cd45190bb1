"""Objects of a source: what identifies them, their faults, selectors and conditions."""

from typing import Literal

from weir.model.value import Value


class Root(Value, frozen=True, kw_only=True, omit_defaults=True):
    """The object an event goes back to; kept in every event so that `why` works past the log's retention."""

    kind: str
    name: str
    namespace: str = ""
    generation: int = 0
    resource_version: str = ""  # of the Kubernetes API; for a manifest its path and document, "shop.yaml#2"

    @property
    def path(self) -> str:
        """ "namespace/name", or the name alone."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class Problem(Value, frozen=True, kw_only=True, omit_defaults=True):
    """One fault in an object, as STYLE section 9 wants it told: what, where, got, accepted."""

    field: str
    got: str
    accepted: str

    def __str__(self) -> str:
        return f"{self.field}: got {self.got}, accepted: {self.accepted}"


class Requirement(Value, frozen=True, kw_only=True, omit_defaults=True):
    """One expression of a label selector (meta/v1, LabelSelectorRequirement)."""

    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: tuple[str, ...] = ()


class Selector(Value, frozen=True, kw_only=True, omit_defaults=True):
    """A label selector; one without a word selects everything (meta/v1, LabelSelector)."""

    labels: dict[str, str] = {}
    expressions: tuple[Requirement, ...] = ()


class Condition(Value, frozen=True, kw_only=True, omit_defaults=True):
    """A condition on an object as the Kubernetes API words it (type, status, reason in CamelCase)."""

    type: str
    status: bool
    reason: str
    message: str = ""
    unknown: bool = False  # `status` Unknown in the Kubernetes API; it counts as not true


def cluster_of(name: str) -> str:
    """Of a namespace, or of what has none: "east" of "east:shop"; "" is the first cluster."""
    return name.rpartition(":")[0]


def name_in(cluster: str, name: str) -> str:
    """As the log has it: "east:shop"."""
    return f"{cluster}:{name}" if cluster and name else name

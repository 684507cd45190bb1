"""Objects of a source: what identifies them, their faults, selectors and conditions."""

from collections.abc import Mapping
from typing import NamedTuple, Self

from weir.model.value import Value


class Root(Value, frozen=True, kw_only=True, omit_defaults=True):
    """The object that an event is about or follows from; kept in every event so that `why` works past the log's retention."""

    kind: str
    name: str
    namespace: str = ""  # "" for kinds without one
    source: str = ""  # name of the cluster; "" for the home cluster (`home_named`) and for folders
    uid: str = ""  # of the Kubernetes API; "" for a manifest
    generation: int = 0  # likewise
    resource_version: str = ""  # likewise, when this was observed; changes of it alone are not recorded
    created: str = ""  # creationTimestamp, RFC 3339 in UTC; "" for a manifest
    place: str = ""  # where the source has it: "shop.yaml#2", "@east/Service/shop/web"

    @property
    def space(self) -> str:
        """The namespace as names in the log have it: "shop", or "east:shop" for a source other than the home cluster."""
        return name_in(self.source, self.namespace)

    @property
    def path(self) -> str:
        """ "shop/web", "east:shop/web", or for kinds without namespaces "office", "east:office"."""
        return name_in(self.source, f"{self.namespace}/{self.name}" if self.namespace else self.name)

    @property
    def owner(self) -> str:
        """The object by kind and path, "Service/shop/web": how holders, claims and plans refer to it.  `Owner.parse` reads it."""
        return f"{self.kind}/{self.path}"


class Owner(NamedTuple):
    """What identifies an object among all sources and kinds; its text form is that of `Root.owner`."""

    source: str
    kind: str
    namespace: str
    name: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """The owner that "Service/east:shop/web" or "VIPPool/office" names."""
        kind, _, path = text.partition("/")
        source, _, rest = path.rpartition(":")
        namespace, _, name = rest.rpartition("/")
        return cls(source, kind, namespace, name)

    @property
    def space(self) -> str:
        """As `Root.space`."""
        return name_in(self.source, self.namespace)

    def __str__(self) -> str:
        return f"{self.kind}/{name_in(self.source, f'{self.namespace}/{self.name}' if self.namespace else self.name)}"


def owner_of(kind: str, space: str, name: str) -> str:
    """The owner text of a namespaced object; space: its namespace as `Root.space` has it."""
    return f"{kind}/{space}/{name}"


def shown(owner: str) -> str:
    """An owner for people: "shop/web" for a Service, "Gateway/shop/edge" for all others."""
    return owner.removeprefix("Service/")


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
    operator: str  # In, NotIn, Exists, DoesNotExist
    values: tuple[str, ...] = ()


class Selector(Value, frozen=True, kw_only=True, omit_defaults=True):
    """A label selector; one without a word selects everything (meta/v1, LabelSelector)."""

    labels: dict[str, str] = {}
    expressions: tuple[Requirement, ...] = ()


def selects(selector: Selector | None, labels: Mapping[str, str]) -> bool:
    """Whether the selector takes in what has these labels; none takes in everything (meta/v1, LabelSelector)."""
    if selector is None:
        return True
    return all(labels.get(name) == value for name, value in selector.labels.items()) and all(
        _meets(requirement, labels) for requirement in selector.expressions
    )


def _meets(requirement: Requirement, labels: Mapping[str, str]) -> bool:
    match requirement.operator:
        case "In":
            return labels.get(requirement.key) in requirement.values
        case "NotIn":
            return labels.get(requirement.key) not in requirement.values
        case "Exists":
            return requirement.key in labels
        case "DoesNotExist":
            return requirement.key not in labels
    return False


class Condition(Value, frozen=True, kw_only=True, omit_defaults=True):
    """A condition on an object as the Kubernetes API words it (type, status, reason in CamelCase)."""

    type: str
    status: bool
    reason: str
    message: str = ""
    unknown: bool = False  # `status` Unknown in the Kubernetes API; it counts as not true


def source_of(name: str) -> str:
    """Of the name of a node or namespace as the log has it: "east" of "east:shop"; "" is the home cluster."""
    return name.rpartition(":")[0]


def name_in(source: str, name: str) -> str:
    """The name as the log has it: "east:shop"."""
    return f"{source}:{name}" if source and name else name

"""What the watcher observed of Ingresses and their classes.  Author: watcher."""

from typing import ClassVar

from weir.events.base import ObjectEvent
from weir.model import BackendRef, IngressRule, IngressTls, ObjectRef
from weir.words import few


class IngressClassObserved(ObjectEvent, frozen=True, kw_only=True, tag="ingressclass_observed"):
    """An IngressClass of any controller."""

    kind: ClassVar[str] = "ingressclass"
    controller: str
    ours: bool = False  # the installation serves its controller
    default: bool = False  # it has the annotation that makes it the class of Ingresses that name none
    parameters: ObjectRef | None = None
    requested: dict[str, str] = {}  # annotations under weir.dev/ (aliases resolved)


class IngressClassGone(ObjectEvent, frozen=True, kw_only=True, tag="ingressclass_gone"):
    """The IngressClass is gone."""

    kind: ClassVar[str] = "ingressclass"
    gone: ClassVar[bool] = True


class IngressObserved(ObjectEvent, frozen=True, kw_only=True, tag="ingress_observed"):
    """An Ingress of any class."""

    kind: ClassVar[str] = "ingress"
    class_name: str = ""  # of the field, else of the older annotation; "": the default class
    rules: tuple[IngressRule, ...] = ()
    default_backend: BackendRef | None = None
    tls: tuple[IngressTls, ...] = ()

    def backends(self) -> list[BackendRef]:
        """Those of its rules and the default one."""
        default = [self.default_backend] if self.default_backend else []
        return [*(path.backend for rule in self.rules for path in rule.paths), *default]

    def stated(self) -> str:
        hosts = few(dict.fromkeys(rule.host or "*" for rule in self.rules)) or "default backend"
        return f"{self.root.path}, class {self.class_name or 'not named'}, {hosts}"


class IngressGone(ObjectEvent, frozen=True, kw_only=True, tag="ingress_gone"):
    """The Ingress is gone."""

    kind: ClassVar[str] = "ingress"
    gone: ClassVar[bool] = True


IngressApiObserved = IngressClassObserved | IngressObserved
IngressApiGone = IngressClassGone | IngressGone

"""What Ingresses request, in the terms of networking.k8s.io/v1."""

from weir.model.gateway import BackendRef, PathMatch
from weir.model.value import Value


class IngressPath(Value, frozen=True, kw_only=True, omit_defaults=True):
    """A path of a rule.  Of the types of path, Prefix and ImplementationSpecific are PathPrefix."""

    path: PathMatch = PathMatch()
    backend: BackendRef


class IngressRule(Value, frozen=True, kw_only=True, omit_defaults=True):
    """The paths of one host; without paths its requests go to the default backend."""

    host: str = ""  # "": any; "*.example.com": exactly one label before example.com
    paths: tuple[IngressPath, ...] = ()


class IngressTls(Value, frozen=True, kw_only=True, omit_defaults=True):
    """Hosts that are served over TLS, with the certificate of a Secret in the namespace of the Ingress."""

    hosts: tuple[str, ...] = ()  # (): any
    secret: str = ""

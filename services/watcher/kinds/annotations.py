"""The annotations of a Service: what its spec has no field for.

`weir.dev/X`; every `loxilb.io/X` of kube-loxilb and the three of MetalLB are aliases, which count where ours is not written.  What is
valid and not served yet, and a word that nobody knows, is reported as `unsupported`: never refused, never ignored.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from services.watcher.kinds.fields import MOST_TOLD, Field, show
from services.watcher.kinds.near import nearest
from weir.model import Problem

PREFIX: Final = "weir.dev/"
LOXILB: Final = "loxilb.io/"
METALLB_PREFIXES: Final = ("metallb.io/", "metallb.universe.tf/")

READ: Final = (
    *("ips", "staticIP", "more-ips", "pool", "more-pools", "ipam", "share-key", "exclusive", "source-ranges"),
    *("lbmode", "epselect", "timeout", "no-backend", "drain-timeout", "targets", "nodelabel", "usepodnetwork", "useExternalEndpoint"),
    *("liveness", "probetype", "probetimeout", "proberetries", "probeport", "probereq", "proberesp", "probehost", "loadBalancerClass"),
)
_OTHER_NAMES: Final = {"poolSelect": "pool", "poolSelectSecondary": "more-pools", "secondaryIPs": "more-ips"}  # kube-loxilb's
METALLB: Final = {"address-pool": "pool", "loadBalancerIPs": "ips", "allow-shared-ip": "share-key"}
_SOURCES_BEFORE_SPEC: Final = "service.beta.kubernetes.io/load-balancer-source-ranges"
_WRITTEN_BY_METALLB: Final = "ip-allocated-from-pool"
_LATER: Final = (
    *("multus-nets", "zoneselect", "zoneinstance", "prefLocalPod", "useproxyprotov2", "egress"),
    *("mtls-frontend-mode", "mtls-frontend-secret", "mtls-frontend-require-cn", "mtls-frontend-cn-pattern"),
    *("mtls-backend-verify", "mtls-backend-ca-secret", "mtls-backend-client-secret"),
)
_OURS: Final = {name: name for name in (*READ, *_LATER)} | _OTHER_NAMES
_WORDS: Final[Mapping[str, Mapping[str, str]]] = {  # prefix -> word -> ours; a later prefix takes the place of an earlier
    **dict.fromkeys(reversed(METALLB_PREFIXES), METALLB),
    LOXILB: _OURS,
    PREFIX: _OURS,
}
RETRY_ON, RETRIES = "gateway.envoyproxy.io/retry-on", "gateway.envoyproxy.io/num-retries"  # of an HTTPRoute
INGRESS_CLASS: Final = "kubernetes.io/ingress.class"  # of an Ingress; older than its field, which counts where both stand
DEFAULT_CLASS: Final = "ingressclass.kubernetes.io/is-default-class"  # of an IngressClass
TAKEN: Final = (*_WORDS, _SOURCES_BEFORE_SPEC, RETRY_ON, RETRIES, INGRESS_CLASS, DEFAULT_CLASS)  # how annotations begin that are read
_OFF: Final = ("", "no", "false", "disabled")


class Asked:
    """The annotations under our prefix or an alias that are not empty, by our name for each."""

    def __init__(self, annotations: Field) -> None:
        self.fields: dict[str, Field] = {}
        self._unknown: list[tuple[str, Field]] = []  # prefix
        self._absent = annotations
        keys = [key for key in annotations.value if isinstance(key, str)] if isinstance(annotations.value, dict) else []
        for prefix, words in _WORDS.items():
            ours = [key for key in keys if key.startswith(prefix)]
            for key in sorted(ours, key=lambda key: key.partition("/")[2] not in _OTHER_NAMES):
                self._take(prefix, words, key.removeprefix(prefix), annotations[key])

    def _take(self, prefix: str, words: Mapping[str, str], word: str, field: Field) -> None:
        if word not in words:
            if word != _WRITTEN_BY_METALLB or words is not METALLB:
                self._unknown.append((prefix, field))
        elif (text := field.text()) and field.value == text:
            self.fields[words[word]] = field

    def __getitem__(self, name: str) -> Field:
        return self.fields.get(name) or Field(None, self._absent, self._absent.faults, PREFIX + name)

    def several(self, name: str) -> list[Field]:
        """The parts of a list, written with commas."""
        return _parts(self[name])

    def sources_before_spec(self) -> list[Field]:
        """The API's own annotation for source ranges, older than the field of the spec."""
        return _parts(self._absent[_SOURCES_BEFORE_SPEC])

    def texts(self) -> dict[str, str]:
        """Return all of them, by their names under weir.dev/."""
        return {PREFIX + name: field.text() for name, field in sorted(self.fields.items())}

    def later(self) -> list[Problem]:
        """Return what is requested and not served yet, and unknown words with what may have been meant."""
        unserved = [not_yet(self[name]) for name in _LATER if self[name].value not in (None, *_OFF)]
        unknown = [(prefix, field) for prefix, field in self._unknown if field.value not in (None, "")]
        return unserved + [_unknown(prefix, field, propose=i < MOST_TOLD) for i, (prefix, field) in enumerate(unknown)]


def _parts(field: Field) -> list[Field]:
    return [Field(text.strip(), field.path, field.faults) for text in field.text().split(",") if text.strip()]


def _unknown(prefix: str, field: Field, *, propose: bool) -> Problem:
    """propose: look for the nearest word, which takes time."""
    words = _WORDS[prefix]
    near = nearest(field.step.removeprefix(prefix), words) if propose else ""
    accepted = f"{prefix}{near}" if near else f"one of {', '.join(READ if words is _OURS else words)} after {prefix}"
    return Problem(field=field.path, got=show(field.value), accepted=accepted)


def not_yet(field: Field, served: Iterable[str] = ()) -> Problem:
    """A valid value that is not served yet; `served`: those that are."""
    return Problem(field=field.path, got=f"{show(field.value)} (not served yet)", accepted=", ".join(served) or "nothing")

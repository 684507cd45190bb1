"""The annotations by which a Service asks for more than its spec can say.

`weir.dev/X`; every `loxilb.io/X` of kube-loxilb is an alias that gives way to it.  What is valid and not served yet is told as
`unsupported`, never refused and never passed over.
"""

from collections.abc import Iterable
from typing import Final

from services.watcher.fields import Field, show
from weir.model import Problem

PREFIX: Final = "weir.dev/"
ALIAS: Final = "loxilb.io/"

READ: Final = (
    *("ips", "staticIP", "more-ips", "pool", "more-pools", "ipam", "share-key", "exclusive", "source-ranges"),
    *("lbmode", "epselect", "timeout", "no-backend", "drain-timeout", "targets", "nodelabel", "usepodnetwork", "useExternalEndpoint"),
    *("liveness", "probetype", "probetimeout", "proberetries", "probeport", "probereq", "proberesp", "probehost", "loadBalancerClass"),
)
_OTHER_NAMES: Final = {"poolSelect": "pool", "poolSelectSecondary": "more-pools", "secondaryIPs": "more-ips"}  # kube-loxilb's
_LATER: Final = (
    *("multus-nets", "zoneselect", "zoneinstance", "prefLocalPod", "useproxyprotov2", "egress"),
    *("mtls-frontend-mode", "mtls-frontend-secret", "mtls-frontend-require-cn", "mtls-frontend-cn-pattern"),
    *("mtls-backend-verify", "mtls-backend-ca-secret", "mtls-backend-client-secret"),
)
_KNOWN: Final = {*READ, *_OTHER_NAMES, *_LATER}
_OFF: Final = ("", "no", "false", "disabled")


class Asked:
    """The annotations under our prefix or its alias that are not empty, by the name after it; kube-loxilb's names stand for ours."""

    def __init__(self, annotations: Field) -> None:
        keys = [key for key in annotations.value if isinstance(key, str)] if isinstance(annotations.value, dict) else []
        aliases = [key for key in keys if key.startswith(ALIAS) and key.removeprefix(ALIAS) in _KNOWN]
        ours = sorted((key for key in keys if key.startswith(PREFIX)), key=lambda key: key.removeprefix(PREFIX) not in _OTHER_NAMES)
        fields = {_name(key): annotations[key] for key in (*aliases, *ours)}  # a later one takes the place of an earlier
        texts = {name: (field, field.text()) for name, field in fields.items()}
        self.fields = {name: field for name, (field, text) in texts.items() if text and field.value == text}
        self._absent = annotations

    def __getitem__(self, name: str) -> Field:
        return self.fields.get(name) or Field(None, self._absent, self._absent.faults, PREFIX + name)

    def several(self, name: str) -> list[Field]:
        """The parts of a list, written with commas."""
        field = self[name]
        return [Field(text.strip(), field.path, field.faults) for text in field.text().split(",") if text.strip()]

    def texts(self) -> dict[str, str]:
        """All of them under weir.dev/."""
        return {PREFIX + name: field.text() for name, field in sorted(self.fields.items())}

    def later(self) -> list[Problem]:
        """What is asked for and not served yet, and what nobody knows."""
        unserved = [not_yet(self[name]) for name in _LATER if self[name].value not in (None, *_OFF)]
        unknown = sorted(set(self.fields) - _KNOWN)
        accepted = f"one of {', '.join(READ)} after {PREFIX}"
        return unserved + [Problem(field=self[name].path, got=show(self[name].value), accepted=accepted) for name in unknown]


def not_yet(field: Field, served: Iterable[str] = ()) -> Problem:
    """A valid value that is not served yet; `served`: those that are."""
    return Problem(field=field.path, got=show(field.value), accepted=f"{', '.join(served) or 'nothing'} (not served yet)")


def _name(key: str) -> str:
    name = key.partition("/")[2]
    return _OTHER_NAMES.get(name, name)

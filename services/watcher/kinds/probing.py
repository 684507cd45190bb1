"""How the backends of a Service are probed."""

from typing import Final

from services.watcher.kinds.annotations import Asked, not_yet
from weir.model import PROBE_KINDS, Probe, Problem

_OTHER_NAMES: Final[dict[str, str]] = {"icmp": "ping"}
_LATER: Final = ("udp", "sctp")
_MOST_INTERVAL_S: Final = 3600
_MOST_RETRIES: Final = 100
_MOST_TEXT: Final = 1024


def read_probe(asked: Asked, unsupported: list[Problem], *, liveness: bool) -> Probe | None:
    """A probe where liveness is yes; 0 stands for the default, as in kube-loxilb, where probetimeout is the period.

    liveness: the default, for a Service without the annotation.
    """
    live = asked["liveness"].word(("yes", "no"), "yes" if liveness else "no")
    kind = asked["probetype"].word((*PROBE_KINDS, *_OTHER_NAMES, "none", *_LATER), "tcp")
    probe = Probe(
        kind=kind if kind in PROBE_KINDS else _OTHER_NAMES.get(kind, "tcp"),
        interval_s=asked["probetimeout"].digits(0, _MOST_INTERVAL_S) or Probe().interval_s,
        retries=asked["proberetries"].digits(0, _MOST_RETRIES) or Probe().retries,
        port=asked["probeport"].digits(0, 65535),
        path=_path(asked),
        host=asked["probehost"].domain_name(),
        expect=_text(asked, "proberesp"),
    )
    if live == "no" or kind == "none":
        return None
    if kind in _LATER:
        unsupported.append(not_yet(asked["probetype"], (*PROBE_KINDS, "none")))
    return probe


def _path(asked: Asked) -> str:
    """With the slash that kube-loxilb leaves out."""
    path = _text(asked, "probereq")
    if not path.isascii() or " " in path:
        asked["probereq"].fail("a path of ASCII characters without spaces")
    return path if path.startswith("/") else f"/{path}"


def _text(asked: Asked, name: str) -> str:
    text = asked[name].text()
    if len(text) > _MOST_TEXT:
        asked[name].fail(f"at most {_MOST_TEXT} characters")
    return text

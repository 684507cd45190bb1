"""How objects are read: the defaults of this installation for what a Service leaves open."""

from typing import Final, NamedTuple

from weir.model import Mode, Targets

OURS: Final = "weir.dev/weir"  # always
ALIASES: Final = ("loxilb.io/loxilb",)
CLASSES: Final = (OURS, *ALIASES)


class Settings(NamedTuple):
    """classes: of `loadBalancerClass`, and of a GatewayClass's `controllerName`, those that are ours.
    default_class: Services that name none are ours too.

    external_ips: `spec.externalIPs` requests addresses, which pools allocate or not, each to one holder.  Else they are ignored: whoever
    may write a Service could take any address (CVE-2020-8554).
    """

    classes: tuple[str, ...] = CLASSES
    default_class: bool = True
    mode: Mode = "default"
    targets: Targets = "endpoints"
    liveness: bool = False  # backends are probed
    external_ips: bool = False


DEFAULT: Final = Settings()

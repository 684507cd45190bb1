"""What this installation takes a Service to mean that does not say it: given to the watcher when it starts."""

from typing import Final, NamedTuple

from weir.model import Mode, Targets

OURS: Final = "weir.dev/weir"  # always: what a namespace's label asks for is this one
ALIASES: Final = ("loxilb.io/loxilb",)
CLASSES: Final = (OURS, *ALIASES)


class Settings(NamedTuple):
    """classes: of `loadBalancerClass`, those that are ours.   default_class: Services that name none are ours too.

    external_ips: `spec.externalIPs` asks for addresses, which pools give or not, each to one holder.  Else it is nobody's to grant: whoever
    may write a Service could take any address (CVE-2020-8554).
    """

    classes: tuple[str, ...] = CLASSES
    default_class: bool = True
    mode: Mode = "default"
    targets: Targets = "endpoints"
    liveness: bool = False  # backends are probed
    external_ips: bool = False
    gateway_classes: tuple[str, ...] = ()  # names of GatewayClasses that are ours whatever their controller


DEFAULT: Final = Settings()

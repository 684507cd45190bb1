"""What this installation takes a Service to mean that does not say it: given to the watcher when it starts."""

from typing import Final, NamedTuple

from weir.model import Mode, Targets

CLASSES: Final = ("weir.dev/weir", "loxilb.io/loxilb")


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


DEFAULT: Final = Settings()

"""The settings of this node's agent."""

from typing import Annotated, Literal

from services.dataplane.load.interfaces import listed
from weir.service.settings import Common, Option

Hook = Literal["auto", "tc", "xdp", "xdp-generic"]


def _word(text: str) -> list[str]:
    return [text]


class Settings(Common, frozen=True, kw_only=True):
    """interface, hook: as the loader attached them.   proxy: an Envoy runs on this machine, from the files that the agent writes.

    hello: the hello process runs on this machine.   frr: the daemons of FRR do.
    """

    interface: Annotated[
        tuple[str, ...], Option("an interface that packets arrive on: NAME, NAME=HOOK or PREFIX*; may be repeated", read=listed)
    ] = ()
    hook: Annotated[Hook, Option("the hook of interfaces that name none")] = "tc"
    proxy: Annotated[bool, Option("write the configuration of an Envoy that serves the L7 plan on this machine")] = False
    hello: Annotated[bool, Option("take turns with other LB nodes in announcing VIPs: a hello process runs on this machine")] = False
    frr: Annotated[bool, Option("tell routers of VIPs by BGP: FRR runs on this machine, from the files that the agent writes")] = False
    secrets: Annotated[
        tuple[str, ...], Option("where TLS Secrets are: manifests, or kubernetes[:NAME][=KUBECONFIG]; may be repeated", read=_word)
    ] = ()

"""Which clients may start a flow, by frontend: the entries of `source_ranges`."""

from collections.abc import Sequence

from services.dataplane.l4.layout import source_range_key

_ALLOWED = b"\1"


def ranges(frontend_id: int, vip: str, sources: Sequence[str]) -> dict[bytes, bytes] | None:
    """Return the entries for the CIDRs of the VIP's family; None: all clients are allowed.  No CIDR of its family: none is."""
    family = [source.rpartition("/") for source in sources if (":" in source) == (":" in vip)]
    if not sources or any(bits == "0" for _, _, bits in family):
        return None
    return {source_range_key(frontend_id, network, int(bits)): _ALLOWED for network, _, bits in family}

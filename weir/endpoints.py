"""How many endpoints of a Service get new flows."""

from collections import defaultdict
from collections.abc import Callable, Iterable

from weir.events import EndpointSliceObserved, ServiceObserved
from weir.model import Endpoint, Family, better


def counts(observed: ServiceObserved, slices: Iterable[EndpointSliceObserved], is_down: Callable[[str], bool]) -> tuple[int, int]:
    """Count the endpoints that get new flows, and all that have a port of the Service.

    A pod has an address in each family, so the family with the most endpoints counts, not the sum.
    """
    ports = {(port.name, port.protocol) for port in observed.ports}
    found = defaultdict[Family, dict[str, Endpoint]](dict)
    for each in slices:
        if any((port.name, port.protocol) in ports for port in each.ports):
            of_family = found[each.family]
            for endpoint in each.endpoints:
                of_family[endpoint.address] = better(of_family.get(endpoint.address, endpoint), endpoint)
    endpoints = max(found.values(), key=len, default={})
    return sum(each.ready and not is_down(each.address) for each in endpoints.values()), len(endpoints)

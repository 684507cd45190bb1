"""The core of the Gateway API's own conformance suite, of all five kinds of routes; `make conformance` runs the whole of it."""

from tests.conformance.__main__ import LOG, results, site, suite
from tests.own import own

CORE = "Gateway,ReferenceGrant,HTTPRoute,GRPCRoute,TLSRoute,TCPRoute,UDPRoute"
MODES = "TLSRouteModeTerminate,TLSRouteModeMixed"  # whoever lacks these has to refuse them
LEAST = 60  # tests of these features


def test_what_every_implementation_of_the_gateway_api_must_do_is_done(root: None, built: None) -> None:
    with site(own("weircf")) as machines:
        code = suite(machines, f"-supported-features={CORE},{MODES}")
    found = results()
    assert [name for name, word in found.items() if word == "FAIL"] == []
    assert code == 0, LOG.read_text()[-3000:]
    assert sum(word == "PASS" for word in found.values()) >= LEAST

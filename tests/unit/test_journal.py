"""What a service logs of the events it appends: in the journal there is no event log to ask for the reason."""

from structlog.testing import capture_logs

from weir.decider import Decided
from weir.events import AnyEvent, ManifestRejected, ServiceObserved
from weir.model import Problem, Root
from weir.service.journal import MOST_LINES, log_appended


def lines(*events: AnyEvent) -> list[dict[str, object]]:
    with capture_logs() as found:
        log_appended("watcher", [Decided(event, 0) for event in events], 7)
    return [dict(line) for line in found]


def service(name: str) -> ServiceObserved:
    return ServiceObserved(root=Root(kind="Service", namespace="shop", name=name), exposed=True)


BAD = ManifestRejected(source="web.yaml#2", problems=(Problem(field="spec.ports[0].port", got="0", accepted="1-65535"),))


def test_a_rejected_manifest_is_logged_with_the_reason() -> None:
    observed, rejected = lines(service("web"), BAD)
    assert (observed["event"], observed["entity"], observed["log_level"]) == ("service_observed", "shop/web", "info")
    assert (rejected["event"], rejected["seq"], rejected["log_level"]) == ("manifest_rejected", 8, "warning")
    assert rejected["reason"] == "spec.ports[0].port: got 0, accepted: 1-65535"


def test_of_many_events_one_line_is_logged_and_those_of_trouble() -> None:
    found = lines(*(service(f"web-{n}") for n in range(MOST_LINES)), BAD)
    assert [line["event"] for line in found] == ["appended", "manifest_rejected"]
    assert found[1]["seq"] == 7 + MOST_LINES

"""Commands that read a dump: from a file, compressed, through a pipe; with filters, at moments, and their exit codes."""

import gzip
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.unit.test_recording import delivered, recording, service
from weir.cli.__main__ import app
from weir.decider import Fact, World
from weir.events import AnyEvent, BackendsPlanned, EndpointDown, EndpointSliceObserved, ServiceObserved, VipAllocated, VipDenied
from weir.model import Backend, Root
from weir.view.errors import Unanswerable
from weir.view.names import named, services_of

ROOT = Root(kind="Service", namespace="shop", name="web.1")
EVENTS: list[AnyEvent] = [
    service(1),
    service(2),
    VipAllocated(vip="192.0.2.1", pool="p", holders=("Service/shop/web.1",), root=ROOT),
    VipDenied(
        owner="Service/shop/web.2",
        family="IPv4",
        reason="Exhausted",
        message="",
        holders=(),
        since=2,
        root=Root(kind="Service", namespace="shop", name="web.2"),
    ),
    service(2, gone=True),
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    recording(tmp_path, *(delivered(seq, event) for seq, event in enumerate(EVENTS, 1)))
    return tmp_path / "log"


def weir(*words: str) -> Result:
    return CliRunner().invoke(app, words)


def piped(given: bytes, *words: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run([sys.executable, "-m", "weir.cli", *words], input=given, capture_output=True, check=False)


def sequences(done: Result) -> list[int]:
    assert done.exit_code == 0, done.stderr
    return [int(line.split()[0]) for line in done.stdout.splitlines()]


def test_dump_is_read_compressed_and_through_a_pipe(file: Path, tmp_path: Path) -> None:
    plain, packed = file.read_bytes(), gzip.compress(file.read_bytes())
    (tmp_path / "log.gz").write_bytes(packed)
    expected = weir("log", "tail", "--from", str(file))
    assert sequences(expected) == [1, 2, 3, 4, 5]
    assert weir("log", "tail", "--from", str(tmp_path / "log.gz")).stdout == expected.stdout
    for given in (plain, packed):
        assert piped(given, "log", "tail", "--from", "-").stdout.decode() == expected.stdout
    torn = piped(packed[:-20], "log", "tail", "--from", "-")
    assert torn.returncode == 2
    assert torn.stderr.decode().startswith("weir: -: damaged gzip file: ")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("-n", "2"), [4, 5]),
        (("--kind", "service"), [1, 2, 5]),
        (("--kind", "service_gone"), [5]),
        (("--kind", "vip_denied", "--kind", "vip"), [3, 4]),
        (("--service", "shop/web.2"), [2, 4, 5]),
        (("--service", "shop/web.2", "-n", "1"), [5]),
        (("--since", "3"), [4, 5]),
        (("--since", "1970-01-01T00:00:03"), [3, 4, 5]),
        (("--since", "1970-01-01T00:00:03", "--service", "shop/web.1"), [3]),
        (("--since", "1h"), []),
        (("--service", "web.1"), [1, 3]),
        (("--service", "web.2"), [2, 4, 5]),
    ],
)
def test_tail_shows_what_its_filters_ask_for(file: Path, words: tuple[str, ...], expected: list[int]) -> None:
    assert sequences(weir("log", "tail", *words, "--from", str(file))) == expected


def test_tail_says_so_where_no_event_is_about_such_a_service(file: Path) -> None:
    done = weir("log", "tail", "--service", "nope", "--from", str(file))
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "weir: no events about Service 'nope'\n")
    assert weir("log", "tail", "--service", "web.1", "--from", str(file)).stderr == ""


def test_what_probes_find_of_the_backends_of_a_service_is_about_it(tmp_path: Path) -> None:
    backends = BackendsPlanned(
        set="shop/web.1:80/TCP:IPv4", chunk=0, chunks=1, backends=(Backend(address="10.0.0.1", port=80),), root=ROOT, protocol="TCP"
    )
    downs = [EndpointDown(node="n1", address=f"10.0.0.{n}", port=80, protocol="TCP", reason="", failures=2) for n in (1, 2)]
    recording(tmp_path, *(delivered(seq, event) for seq, event in enumerate([service(1), backends, *downs], 1)))
    assert sequences(weir("log", "tail", "--service", "shop/web.1", "--from", str(tmp_path / "log"))) == [1, 2, 3]


def test_a_name_alone_is_the_only_service_so_called_or_the_one_in_default_as_kubectl_has_it(file: Path) -> None:
    def known(*services: str) -> World:
        world = World()
        for seq, each in enumerate(services, 1):
            namespace, _, name = each.partition("/")
            world.evolve(Fact(seq, ServiceObserved(root=Root(kind="Service", namespace=namespace, name=name), exposed=True, ports=())))
        return world

    assert named(known("shop/web", "shop/api"), "web") == "shop/web"
    assert named(known("shop/web", "default/web"), "web") == "default/web"
    assert named(known("shop/web", "two:shop/web"), "shop/web") == "shop/web"
    assert named(known("shop/web"), "nope") == named(known("shop/web"), "blog/web") == ""
    with pytest.raises(Unanswerable, match="ambiguous name 'web': blog/web, shop/web"):
        named(known("shop/web", "blog/web"), "web")
    by_full_name = weir("log", "why", "shop/web.1", "--from", str(file))
    assert weir("log", "why", "web.1", "--from", str(file)).stdout == by_full_name.stdout != ""


def test_each_kind_of_event_is_found_by_its_service() -> None:
    slice_ = EndpointSliceObserved(root=Root(kind="EndpointSlice", namespace="shop", name="web-x7"), service="web", family="IPv4")
    backends = BackendsPlanned(set="shop/web:80/TCP:IPv4", chunk=0, chunks=1, backends=(), root=ROOT, protocol="TCP")
    assert services_of(slice_) == {"shop/web"}
    assert services_of(backends) == {"shop/web", "shop/web.1"}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("diff", "yesterday"), 2, "weir: invalid time 'yesterday': expected a sequence"),
        (("diff", "99999"), 2, "weir: 99999 is in the future: the log ends at event 5 (1970-01-01 00:00:05 UTC)"),
        (("diff", "-1h"), 0, "from sequence 5 to 5: no differences"),
        (("diff", "1"), 1, "from sequence 1 to 5: "),
        (("replay", "--diff", "--at", "yesterday"), 2, "weir: invalid time 'yesterday'"),
        (("replay", "--at", "0"), 2, "weir: 0 is before the log begins, at event 1 (1970-01-01 00:00:01 UTC)"),
        (("log", "tail", "--since", "soon"), 2, "weir: invalid time 'soon'"),
        (("log", "tail", "--kind", "pod"), 2, "weir: unknown kind 'pod': expected one of "),
        (("log", "show", "9"), 1, "weir: no event 9: the log holds 1 to 5"),
        (("log", "why", "nobody"), 1, "weir: no events found for 'nobody'"),
        (("log", "why", "shop/web.2", "--at", "1"), 1, "weir: no events found for 'shop/web.2'"),
    ],
)
def test_exit_code_tells_differences_from_questions_without_an_answer(file: Path, words: tuple[str, ...], code: int, said: str) -> None:
    done = weir(*words, "--from", str(file))
    assert (done.exit_code, done.stderr[: len(said)]) == (code, said)
    assert done.stderr.count("\n") == 1

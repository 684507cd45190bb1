"""Probes against real servers on the loopback: good ones, and every kind of bad one, which gives a reason and never an exception."""

import asyncio
import ssl
import subprocess
import sys

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from services.health.answer import ANSWER_MOST, judge, misfit, request, server_name
from services.health.core import Target
from services.health.probe import Answer, ProbeImpossible, run_probe
from tests.servers import OK, Serve, repeating, saying, silent
from weir.model import Probe


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """A server's side with a certificate that nobody vouches for."""
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=nobody -keyout key -out certificate"
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate", folder / "key")
    return context


def asked(serve: Serve, probe: Probe, *, tls: ssl.SSLContext | None = None, address: str = "127.0.0.1", timeout_s: float = 5) -> Answer:
    """What a probe says of a server; one that takes `timeout_s` is cut off with TimeoutError."""

    async def run() -> Answer:
        async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await serve(reader, writer)
            except (OSError, asyncio.IncompleteReadError):
                pass  # the probe has left, as it may
            finally:
                writer.close()

        server = await asyncio.start_server(once, address, 0, ssl=tls)
        async with asyncio.timeout(timeout_s):
            return await run_probe(Target(address, server.sockets[0].getsockname()[1], "TCP"), probe)

    return uvloop.run(run())


# ── good and bad servers ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("kind", ["tcp", "http", "https"])
def test_a_server_that_answers_is_good(kind: str, address: str, tls: ssl.SSLContext) -> None:
    answer = asked(saying(OK), Probe(kind=kind), tls=tls if kind == "https" else None, address=address)
    assert answer.fault == ""
    assert answer.delay_us > 0


@pytest.mark.parametrize("kind", ["tcp", "http", "https"])
def test_a_closed_port_is_refused(kind: str) -> None:
    assert uvloop.run(run_probe(Target("127.0.0.1", 1, "TCP"), Probe(kind=kind))).fault == "connection refused"


@pytest.mark.parametrize(
    ("said", "expect", "fault"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", "", ""),
        (b"HTTP/1.0 399 \r\n\r\n", "", ""),
        (b"HTTP/1.0 399 \r\n", "", "closed before an answer"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n", "", ""),
        (b"HTTP/1.1 404 Not Found\r\n\r\nready", "ready", "status 404"),
        (b"HTTP/1.1 500 \r\n\r\n", "", "status 500"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK, "ready", ""),
        (b"HTTP/1.1 101 Switching\r\n\r\n", "", "no valid HTTP: Received server _SWITCH_UPGRADE event without a pending proposal"),
        (b"HTTP/1.1 200 OK\r\nX Y: secret\r\n\r\n", "", "no valid HTTP: illegal header line"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 5000, "", "more than 4 interim answers"),
        (OK, "ready", ""),
        (OK, "steady", "'steady' is not in the answer"),
        (b"HTTP/1.1 200 OK\r\nX: ready\r\n\r\nno", "ready", "'ready' is not in the answer"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2;x=y\r\nre\r\n3\r\nady\r\n0\r\n\r\n", "ready", ""),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "",
            "no valid HTTP: Only Transfer-Encoding: chunked is supported",
        ),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\nread", "ready", "'ready' is not in the answer"),
        (b"HTTP/1.1 200 OK\n\nready", "ready", ""),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 4096 + b"ready", "ready", "'ready' is not in the answer"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 4091 + b"ready", "ready", ""),
        (b"HTTP/1.1 200 OK\r\nX: y", "ready", "closed before an answer"),
        (b"", "", "closed before an answer"),
        (b"HTTP/1.1", "", "closed before an answer"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "", "no HTTP but 'SSH-2.0-OpenS'"),
        (b"\x15\x03\x01\x00\x02\x02\x16" * 3, "", r"no HTTP but '\x15\x03\x01\x00\x02\x02\x16\x15\x03\x01\x00\x02\x02'"),
        (b"HTTP/1.1 2000 OK\r\n\r\n", "", "no HTTP but 'HTTP/1.1 2000'"),
    ],
)
def test_what_a_server_says_is_judged(said: bytes, expect: str, fault: str) -> None:
    probe = Probe(kind="http", expect=expect)
    assert asked(saying(said), probe).fault == fault
    size = max(3, len(said) // 30)
    assert asked(saying(*(said[at : at + size] for at in range(0, len(said), size))), probe).fault == fault


@pytest.mark.parametrize(
    ("first", "part", "fault"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n", "no end of the header in 16384 bytes"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 4096, "'ready' is not in the answer"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", "'ready' is not in the answer"),
        (b"", b"\0" * 64, r"no HTTP but '\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00'"),
    ],
    ids=["header", "body", "chunks", "zeros"],
)
def test_a_server_that_never_ends_is_cut_off(first: bytes, part: bytes, fault: str) -> None:
    assert asked(repeating(first, part), Probe(kind="http", expect="ready")).fault == fault


def test_a_server_that_answers_byte_by_byte_is_cut_off() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for byte in b"HTTP/1.1 200 OK\r\n\r\nready" + b" or not" * 100:
            writer.write(bytes((byte,)))
            await asyncio.sleep(0.0005)  # so that the kernel does not put them together again

    assert asked(drip, Probe(kind="http", expect="steady")).fault == "answered in more than 64 pieces"


@pytest.mark.parametrize(
    ("serve", "fault"),
    [(saying(OK), "TLS: wrong version number"), (silent, None), (repeating(b"", b"\x16\x03\x03\x40\x00"), "TLS: ")],
    ids=["plain", "silent", "garbage"],
)
def test_a_server_without_tls_fails_an_https_probe(serve: Serve, fault: str | None) -> None:
    async def at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(OK)

    if fault is None:
        with pytest.raises(TimeoutError):
            asked(serve, Probe(kind="https"), timeout_s=0.1)
    else:
        assert asked(at_once if "wrong" in fault else serve, Probe(kind="https")).fault.startswith(fault)


def test_tls_is_told_the_host_and_not_the_address(tls: ssl.SSLContext) -> None:
    names: list[str | None] = []
    tls.sni_callback = lambda _connection, name, _context: names.append(name)
    for host in ("shop.example", "shop.example:8443", "192.0.2.1", ""):
        assert asked(saying(OK), Probe(kind="https", host=host), tls=tls).fault == ""
    assert names == ["shop.example", "shop.example", None, None]


def test_a_host_that_tls_cannot_carry_is_a_fault() -> None:
    assert asked(silent, Probe(kind="https", host="." + "x" * 300)).fault.endswith("is not a server name")


def test_another_port_is_asked_on_behalf_of_the_backend() -> None:
    async def run() -> Answer:
        server = await asyncio.start_server(saying(OK), "127.0.0.1", 0)
        return await run_probe(Target("127.0.0.1", 1, "TCP"), Probe(kind="http", port=server.sockets[0].getsockname()[1]))

    assert uvloop.run(run()).fault == ""


def test_a_kind_of_a_later_version_gives_no_verdict() -> None:
    with pytest.raises(ProbeImpossible, match="kind 'grpc' of a probe: expected one of tcp, http, https, ping"):
        asked(saying(OK), Probe(kind="grpc"))


# ── the words ──────────────────────────────────────────────────────────────────────────────────────────────────────


@given(st.binary(max_size=300), st.binary(max_size=ANSWER_MOST), st.text(max_size=5), st.booleans())
def test_no_bytes_raise_and_an_end_is_an_end(start: bytes, rest: bytes, expect: str, ended: bool) -> None:
    for received in (start + rest, b"HTTP/1.1 200 " + start + b"\r\n\r\n" + rest, b"HTTP/1.1 200 \nTransfer-Encoding: chunked\n\n" + rest):
        assert judge(received, expect, ended=True) is not None
        judge(received, expect, ended=ended)


@pytest.mark.parametrize("word", ["/a\r\nX: y", "/a\nb", "/\0", "/a b", "/\x7f", "/ä", "/\u2028", "http://elsewhere/", ""])
def test_a_path_that_would_say_more_than_a_path_is_not_sent(word: str) -> None:
    assert misfit(Probe(kind="http", path=word))
    assert asked(saying(OK), Probe(kind="http", path=word)).fault == misfit(Probe(kind="http", path=word))


@given(st.text(max_size=20), st.text(max_size=20))
def test_what_is_sent_is_one_request_of_five_lines(path: str, host: str) -> None:
    probe = Probe(kind="http", path="/" + path, host=host)
    if not misfit(probe):
        sent = request(Target("10.0.0.1", 80, "TCP"), probe)
        assert len(sent.split(b"\r\n")) == 7
        assert sent.count(b"\n") == sent.count(b"\r") == 6
        assert sent.startswith(b"GET /" + path.encode() + b" HTTP/1.1\r\nHost: " + (host.encode() or b"10.0.0.1") + b"\r\n")


@pytest.mark.parametrize(
    ("target", "probe", "host"),
    [
        (Target("10.0.0.1", 8080, "TCP"), Probe(kind="http"), b"10.0.0.1:8080"),
        (Target("fd00::1", 8080, "TCP"), Probe(kind="http", port=80), b"[fd00::1]"),
        (Target("fd00::1", 443, "TCP"), Probe(kind="https"), b"[fd00::1]"),
        (Target("10.0.0.1", 443, "TCP"), Probe(kind="http", host="shop.example"), b"shop.example"),
    ],
)
def test_the_host_is_the_one_given_or_the_address(target: Target, probe: Probe, host: bytes) -> None:
    assert b"\r\nHost: " + host + b"\r\n" in request(target, probe)


def test_no_address_is_a_server_name() -> None:
    assert [server_name(Probe(host=host)) for host in ("a.example:1", "10.0.0.1", "[fd00::1]:443", "")] == ["a.example", None, None, None]


# ── ping ───────────────────────────────────────────────────────────────────────────────────────────────────────────

PINGS = """
import asyncio, sys, uvloop
from pathlib import Path
from services.health.core import Target
from services.health.probe import ProbeImpossible, run_probe
from weir.model import Probe

async def told(address):
    try:
        return (await asyncio.wait_for(run_probe(Target(address, 53, "UDP"), Probe(kind="ping")), 5)).fault
    except ProbeImpossible as error:
        return str(error)

print(uvloop.run(told("127.0.0.1")))
Path("/proc/sys/net/ipv4/ping_group_range").write_text("0 0")
for address in ("127.0.0.1", "::1", "203.0.113.1"):
    print(uvloop.run(told(address)))
"""


def test_a_ping_needs_an_answer_and_a_kernel_that_allows_it() -> None:
    """In a network namespace of its own: who may ping is set for each."""
    command = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", sys.executable, "-c", PINGS]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert told == ["this process may not ping: see sysctl net.ipv4.ping_group_range", "", "", "network is unreachable"]

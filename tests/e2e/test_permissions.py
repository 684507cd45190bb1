"""A real NATS with the users of `weir credentials`: every service does its work as its own user, and no user gets beyond that."""

import asyncio
import http.client
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from nats.aio.client import Client

from docs.permissions import node_capabilities
from tests.log_server import LogServer, log_server
from tests.own import free_port, own
from weir.bus.access import api_of, nats_access
from weir.bus.client import Bus
from weir.bus.permissions import users
from weir.bus.reader import Forbidden, LogUnreachable
from weir.bus.snapshots import SNAPSHOTS
from weir.bus.subjects import LEASES, STATE, STREAM
from weir.cli.box.credentials import credentials
from weir.demo.network import wait_until
from weir.demo.stage import Stage, stage
from weir.where import Where

NODE = "n1.example"
NAME = own("weirdeployperm")


# ── every service as its own user ──────────────────────────────────────────────────────────────────────────────────


@contextmanager
def installed(stage: Stage, server: LogServer) -> Iterator[dict[str, Path]]:
    """The five services, ipam twice, with their own seeds alone and the capabilities that deploy/ gives them; yields their logs."""
    loader = ["-m", "services.dataplane.load.loader", "--pins", str(stage.where.pins), "--interface=front,back"]
    stage.network.run("lb", *confined("loader"), sys.executable, *loader)
    node = ["--node", NODE]
    words = {
        "watcher": ["watcher", "--replicated", str(stage.folder / "shop")],
        "ipam": ["ipam", "--replicated"],
        "ipam-2": ["ipam", "--replicated"],
        "planner": ["planner", "--replicated", "--metrics", "127.0.0.1:9600"],
        "dataplane": ["dataplane", *node, "--interface=front,back"],
        "health": ["health", *node],
    }
    logs = {name: stage.folder / f"{name}.log" for name in words}
    running = []
    try:
        for name, (service, *options) in words.items():
            seed = f"{service}-{NODE}.seed" if service in ("dataplane", "health") else f"{service}.seed"
            command = [sys.executable, "-m", f"services.{service}", "--instance", stage.where.instance, *options]
            with logs[name].open("w") as log:
                running.append(
                    stage.network.popen("lb", *confined(service), *command, env=server.environment(seed), stdout=log, stderr=log)
                )
        yield logs
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(60)


def confined(container: str) -> list[str]:
    """Words before a command that leave it these capabilities only."""
    kept = "".join(f",+{name.lower()}" for name in node_capabilities().get(container, ()))
    return ["setpriv", "--no-new-privs", "--inh-caps=-all", f"--bounding-set=-all{kept}"]


def test_every_service_does_its_work_as_its_own_user() -> None:
    if os.geteuid():
        pytest.skip("namespaces and BPF need root")
    with stage(NAME, fast=True) as found:
        inside = found.network.command("lb")
        with log_server(found.folder, [NODE], 4222, inside) as server, installed(found, server) as logs:
            served = wait_until(lambda: _fetch(found).startswith("b"), 90)
            metrics = found.network.run("lb", "curl", "-s", "127.0.0.1:9600/metrics").stdout
            found.network.run("lb", "curl", "-sf", "127.0.0.1:9600/readyz")
            verify = [sys.executable, "-m", "weir.cli", "log", "verify"]
            verified = found.network.run("lb", *verify, env=server.environment("operator.seed"), check=False)
            refusals = [line for line in server.log.read_text().splitlines() if "Violation" in line]
        said = {name: log.read_text() for name, log in logs.items()}
    assert served, said
    assert 'weir_log_events{stream="WEIR"}' in metrics
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert refusals == []
    assert [name for name, text in said.items() if "violation" in text.lower() or "Forbidden" in text] == []
    assert any("caught_up" in said[name] for name in ("ipam", "ipam-2"))


def _fetch(found: Stage) -> str:
    return found.network.run("client", "curl", "-s", "-m", "1", "http://203.0.113.10/", check=False).stdout


# ── nobody beyond that ─────────────────────────────────────────────────────────────────────────────────────────────


class Deed(NamedTuple):
    """What somebody tries: to publish, with a subject for the answer, or to subscribe where there is no `body`."""

    words: str
    subject: str
    body: str | None = ""
    reply: str = ""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LogServer]:
    with log_server(tmp_path_factory.mktemp("log"), [NODE, "n2"], free_port()) as found:
        yield found


@asynccontextmanager
async def client_of(server: LogServer, name: str, file: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Client, list[str]]]:
    """A connection as this user, and what NATS refused to it so far."""
    for key, value in server.environment(file).items():
        monkeypatch.setenv(key, value)
    refused: list[str] = []

    async def told(error: Exception) -> None:
        refused.append(str(error))

    nc = Client()
    await nc.connect(server.url, error_cb=told, allow_reconnect=False, **nats_access(name))
    try:
        yield nc, refused
    finally:
        await nc.close()


async def is_refused(nc: Client, refused: list[str], deed: Deed) -> bool:
    before = len(refused)
    if deed.body is None:
        await nc.subscribe(deed.subject)
    else:
        await nc.publish(deed.subject, deed.body.encode(), reply=deed.reply)
    await nc.flush()  # nats-py sends this one's ping ahead of what it has pending
    await nc.flush()  # NATS answers in order: its refusal comes before the end of this one
    return len(refused) > before


def test_each_user_publishes_as_the_author_that_it_is_and_as_no_other(server: LogServer, monkeypatch: pytest.MonkeyPatch) -> None:
    everyone = list(users([NODE, "n2"]))
    authors = [each.name for each in everyone]

    async def rows() -> list[tuple[str, list[bool]]]:
        found = []
        for each in everyone:
            async with client_of(server, each.name, each.file, monkeypatch) as (nc, refused):
                deeds = [Deed("", f"weir.local.{author}.test._.x", "{}") for author in authors]
                found.append((each.name, [not await is_refused(nc, refused, deed) for deed in deeds]))
        return found

    table = asyncio.run(rows())
    for name, may in table:
        print(f"{name:<26} {' '.join('yes' if each else ' - ' for each in may)}")
    services = {each.name for each in everyone} - {"bootstrap"}
    assert table == [(name, [author == name and name in services for author in authors]) for name in authors]


def _beyond(api: str) -> list[Deed]:
    """What no service and no operator may do, by the API at this prefix."""
    lowered = json.dumps({"name": STREAM, "subjects": ["weir.>"], "max_msgs_per_subject": 1})
    of_streams = [
        Deed(f"{verb} {stream}", f"{api}STREAM.{verb}.{stream}", lowered)
        for stream in (STREAM, STATE, SNAPSHOTS, f"KV_{LEASES}")
        for verb in ("CREATE", "UPDATE", "DELETE", "PURGE", "RESTORE", "SNAPSHOT", "MSG.DELETE", "LEADER.STEPDOWN")
    ]
    readers = [Deed("list readers", f"{api}CONSUMER.{verb}.{STREAM}") for verb in ("LIST", "NAMES")]
    listing = [
        Deed(what, api + what) for what in ("INFO", "STREAM.LIST", "STREAM.NAMES", f"CONSUMER.LIST.{STREAM}", f"CONSUMER.NAMES.{STREAM}")
    ]
    return [
        *of_streams,
        *listing,
        *readers,
        Deed("make a stream", f"{api}STREAM.CREATE.MINE", "{}"),
        Deed("make a durable reader", f"{api}CONSUMER.DURABLE.CREATE.{STREAM}.mine", "{}"),
        Deed("read by a filter in the subject", f"{api}CONSUMER.CREATE.{STREAM}.mine.weir.>", "{}"),
        Deed("read the leases", f"{api}CONSUMER.CREATE.KV_{LEASES}.mine", "{}"),
        Deed("ask a replica", f"{api}DIRECT.GET.{STATE}", '{"seq":1}'),
    ]


EVERYWHERE = [
    *_beyond("$JS.API."),
    *_beyond("LOG.API."),
    Deed("another's lease", f"$KV.{LEASES}.nobody", "me"),
    Deed("another's inbox", "_INBOX.somebody.x", "{}"),
    Deed("the server's own", "$SYS.REQ.SERVER.PING", ""),
    Deed("hear another's inbox", "_INBOX.somebody.>", None),
    Deed("hear all inboxes", "_INBOX.>", None),
    Deed("hear all", ">", None),
    Deed("hear the log", "weir.>", None),
    Deed("hear answers under way", "_R_.>", None),
    Deed("hear the server's events", "$SYS.>", None),
    Deed("hear JetStream's", "$JS.>", None),
]


def test_what_nobody_may_is_refused_to_everybody(server: LogServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async def rows() -> dict[str, list[str]]:
        allowed = {}
        for each in users([NODE]):
            async with client_of(server, each.name, each.file, monkeypatch) as (nc, refused):
                allowed[each.name] = [deed.words for deed in EVERYWHERE if not await is_refused(nc, refused, deed)]
        return allowed

    allowed = asyncio.run(rows())
    print(f"{len(EVERYWHERE)} deeds each")
    for name, words in allowed.items():
        print(f"{name:<26} allowed: {', '.join(words) or 'none'}")
    made = {f"{verb} {stream}" for stream in (STREAM, STATE, SNAPSHOTS) for verb in ("CREATE", "SNAPSHOT")}
    bootstrap = set(allowed.pop("bootstrap"))
    assert bootstrap == made | {f"CREATE KV_{LEASES}", f"UPDATE {STREAM}"}
    purged = {f"PURGE {stream}" for stream in (STATE, SNAPSHOTS)}  # by who takes the snapshots; never the history
    assert {name: set(words) for name, words in allowed.items() if words} == {"ipam": purged}


def test_no_answer_is_written_into_the_log_in_anothers_name(server: LogServer, monkeypatch: pytest.MonkeyPatch) -> None:
    forged = ("weir.local.planner.frontend.a.b", f"$KV.{LEASES}.planner")
    name, file = f"dataplane-{NODE.replace('.', '=2E')}", f"dataplane-{NODE}.seed"

    async def stored() -> tuple[dict[str, int], dict[str, int]]:
        async with client_of(server, name, file, monkeypatch) as (nc, refused):
            before = await _sizes(server, monkeypatch)
            for key, value in server.environment(file).items():
                monkeypatch.setenv(key, value)
            api = api_of(name)
            own = (await _asked(nc, f"weir.local.{name}.test._.x", {}))["seq"]
            reader = {
                "name": "mine",
                "deliver_policy": "by_start_sequence",
                "opt_start_seq": own,
                "ack_policy": "none",
                "mem_storage": True,
            }
            await _asked(nc, f"{api}CONSUMER.CREATE.{STREAM}.mine", {"stream_name": STREAM, "config": reader})
            for subject in forged:
                await nc.publish(f"{api}STREAM.MSG.GET.{STREAM}", json.dumps({"seq": own}).encode(), reply=subject)
                await nc.publish(f"{api}CONSUMER.MSG.NEXT.{STREAM}.mine", b'{"batch":1,"no_wait":true}', reply=subject)
                await nc.publish(f"weir.local.{name}.test._.x", b"{}", reply=subject)
                pushed = reader | {"name": f"to{len(subject)}", "deliver_subject": subject}
                await _asked(nc, f"{api}CONSUMER.CREATE.{STREAM}.{pushed['name']}", {"stream_name": STREAM, "config": pushed})
            await _asked(nc, f"{api}STREAM.MSG.GET.{STREAM}", {"seq": own})
            assert refused == []
        return before, await _sizes(server, monkeypatch)

    before, after = asyncio.run(stored())
    assert after == {STREAM: before[STREAM] + 1 + len(forged), f"KV_{LEASES}": before[f"KV_{LEASES}"]}  # what it said in its own name


async def _asked(nc: Client, subject: str, body: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads((await nc.request(subject, json.dumps(body).encode(), timeout=10)).data)
    return answer


async def _sizes(server: LogServer, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    async with client_of(server, "bootstrap", "bootstrap.seed", monkeypatch) as (nc, _):
        return {name: (await _asked(nc, f"$JS.API.STREAM.INFO.{name}", {}))["state"]["last_seq"] for name in (STREAM, f"KV_{LEASES}")}


@pytest.mark.parametrize("how", ["no key", "a key that NATS does not know", "a name and a password"])
def test_strangers_are_not_let_in(server: LogServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str) -> None:
    credentials(tmp_path, (), ())
    monkeypatch.setenv("WEIR_NATS_CA", str(server.keys / "ca.crt"))
    if how.startswith("a key"):
        monkeypatch.setenv("WEIR_NATS_SEED", str(tmp_path / "ipam.seed"))
    url = server.url.replace("//", "//weir:word@") if "password" in how else server.url
    with pytest.raises(Forbidden) as error:
        asyncio.run(Bus.connect(url, "ipam"))
    assert "word@" not in str(error.value)


def test_a_server_of_another_certificate_is_not_ours(server: LogServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    credentials(tmp_path, (), ())
    monkeypatch.setenv("WEIR_NATS_CA", str(tmp_path / "ca.crt"))
    with pytest.raises(LogUnreachable, match="CERTIFICATE_VERIFY_FAILED"):
        asyncio.run(Bus.connect(server.url, "ipam"))


def test_a_service_tells_what_nats_refuses_it_and_is_alive_but_not_ready(server: LogServer) -> None:
    port = free_port()
    command = [sys.executable, "-m", "services.ipam", "--instance", NAME, "--metrics", f"127.0.0.1:{port}"]
    try:
        with subprocess.Popen(command, env=server.environment("planner.seed"), stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr
            line = next(line for line in process.stderr if "log_lost" in line)
            answers = {path: _asked_of_port(port, path) for path in ("/healthz", "/readyz", "/other")}
            process.terminate()
    finally:
        shutil.rmtree(Where(NAME).run, ignore_errors=True)
    told = json.loads(line)
    assert told["level"] == "error"
    assert "permissions violation" in told["reason"]
    assert "_inbox.ipam" in told["reason"]
    assert answers == {"/healthz": 200, "/readyz": 503, "/other": 404}


def _asked_of_port(port: int, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", path)
    return connection.getresponse().status

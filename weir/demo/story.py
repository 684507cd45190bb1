"""The demo: a VIP is given, a backend dies and comes back, a manifest is edited, Weir itself is killed, and the log tells it all.

It is checked, not narrated: each claim on the screen is measured in the same run, and one that does not hold is the exit code.
"""

import sys
import time
from pathlib import Path
from typing import Any

from weir.demo.load import Load
from weir.demo.report import Report
from weir.demo.stage import EXAMPLE, DemoError, Stage, clear, left, stage

NAME = "weir-demo"
VICTIM, REMOVED = "b2", "b3"
FLOWS = 200
KILLED = ("watcher", "ipam", "planner", "health", "dataplane", "nats")

_TALLY = "sort | uniq -c"


def run(keep: bool = False, fast: bool = False, name: str = NAME) -> int:
    """Plays the demo; 0 when all it claims held.  keep: leave everything running.  fast: no pauses for the reader."""
    print("A client, a load balancer and three backends, each in a network namespace:\n\n  client ── front lb back ── b1 b2 b3", flush=True)
    failures: list[str] = []
    try:
        with stage(name, fast=fast) as played:
            failures = played.failures
            try:
                _play(played)
            except DemoError as error:
                failures.append(str(error))
                print(f"✗ {error}\n\nlast lines of `weir up`:\n{played.complaints()}")
            if keep:
                played.network.kept = True
                _what_to_try(played)
    except KeyboardInterrupt:
        print("\ninterrupted: removing everything", flush=True)
        return 130
    return _verdict(failures, [] if keep else left(name))


def stop(name: str = NAME) -> int:
    """Takes down what `keep` left running."""
    clear(name)
    for path in left(name):
        print(f"cannot be removed: {path}")
    return 1 if left(name) else 0


def _play(stage: Stage) -> None:
    vips = _given(stage)
    _spread(stage, vips)
    _dies_and_returns(stage, vips)
    _edited(stage, vips)
    _killed(stage, vips)
    _told(stage)


def _given(stage: Stage) -> list[str]:
    """The VIPs that the Service got, IPv4 first."""
    stage.title("A Service asks for a VIP")
    stage.run("lb", "cat shop/service.yaml")
    begun_s = time.monotonic()
    stage.up()
    stage.run("lb", "weir status --wait")
    took_s = time.monotonic() - begun_s
    [service] = stage.ask("status")[0]["services"]
    vips = sorted(service["vips"], key=lambda vip: ":" in vip)
    stage.check(f"{service['service']} serves on {' and '.join(vips)}, {took_s:.1f} s after the start", holds=len(vips) == 2)
    if not vips:
        raise DemoError("the Service has no VIP")
    return vips


def _spread(stage: Stage, vips: list[str]) -> None:
    stage.title("Requests are spread, and backends see the client's own address")
    for vip in vips:
        served = _tally(stage, _ask_all(vip))
        client = "fd76::2" if ":" in vip else "10.76.0.2"
        good = sum(served.values()) == 30 and set(served) == {f"{backend} {client}" for backend in stage.network.backends}
        stage.check(f"{_url(vip)}: every backend takes its share of 30 requests from {client}", holds=good)
    vip = vips[0]
    served = _tally(
        stage,
        f"for i in $(seq 30); do exec 3<>/dev/udp/{vip}/53; echo $i >&3; timeout 1 head -n 1 <&3; done | cut -d' ' -f1 | {_TALLY}",
    )
    stage.check(f"{vip} port 53/UDP: likewise", holds=sum(served.values()) == 30 and set(served) == set(stage.network.backends))


def _dies_and_returns(stage: Stage, vips: list[str]) -> None:
    stage.title(f"Backend {VICTIM} dies and is taken out; it returns and is taken in")
    address, _ = stage.network.addresses(VICTIM)
    with Load(stage.network, *_targets(vips), "--http", "32", "--rate", "300") as load:
        before = load.now()
        stage.run(VICTIM, f"kill -9 {stage.network.pid(VICTIM)}")
        stage.network.stop(VICTIM)
        out_ms, after = _settled(load)
        failed, sent = after.http.failed - before.http.failed, after.http.sent - before.http.sent
        stage.check(
            f"last failed request {out_ms} ms after the kill ({failed} of {sent}); probes: every 1 s, 2 in a row",
            holds=out_ms <= 2500 + after.lag_ms,
        )
        stage.run("lb", "weir get ep")
        stage.check(f"`weir get ep` says nok of {address}", holds=_state(stage, address) == "nok")
        served = _tally(stage, _ask_all(vips[0]))
        stage.check("the others serve on", holds=set(served) == {f"{b} 10.76.0.2" for b in stage.network.backends if b != VICTIM})
        stage.prompt(VICTIM, f"python -m weir.demo.backend --name {VICTIM} &")
        answered = load.now().http.by_backend.get(VICTIM, 0)
        stage.network.start(VICTIM)
        begun_s = time.monotonic()  # it listens
        while load.now().http.by_backend.get(VICTIM, 0) == answered and time.monotonic() - begun_s < 10:
            time.sleep(0.05)
        back_s = time.monotonic() - begun_s
        report = load.stop()
    stage.check(f"{VICTIM} serves again {back_s:.1f} s after its start", holds=back_s < 3 + report.lag_ms / 1000)
    stage.check(f"no other request failed, of {report.http.sent}", holds=report.http.failed == after.http.failed)
    _errors(stage, report, report.http.failed > after.http.failed)


def _edited(stage: Stage, vips: list[str]) -> None:
    stage.title(f"A manifest is edited live: {REMOVED} leaves, and loses nobody")
    v4, v6 = stage.network.addresses(REMOVED)
    with Load(stage.network, *_targets(vips), "--http", "32", "--rate", "300", "--flows", str(FLOWS)) as load:
        stage.run("lb", f"sed -i '/{v4}\\|{v6}/d' shop/endpoints.yaml")
        hosts = {v4, v6}
        took_s = stage.wait_for(f"the plan without {REMOVED}", 60, "get ep", holds=lambda rows: not hosts & {r["host"] for r in rows})
        stage.run("lb", "weir get lb")
        served = _tally(stage, _ask_all(vips[0]))
        stage.check(f"after {took_s:.1f} s new connections go to the others", holds=REMOVED not in {name.split()[0] for name in served})
        stage.run("lb", f"cp {EXAMPLE}/endpoints.yaml shop/")
        stage.wait_for(f"the plan with {REMOVED}", 60, "get ep", holds=lambda rows: hosts <= {r["host"] for r in rows})
        report = load.stop()
    stage.check(f"nothing is lost: {_counted(report)}", holds=report.lost == 0)
    _errors(stage, report, report.lost > 0)


def _killed(stage: Stage, vips: list[str]) -> None:
    stage.title("Weir is killed, part by part and whole, under load")
    stage.wait_for("the last edit programmed", 60, "status", holds=lambda told: told[0]["ok"])
    plan = stage.ask("replay")[0]["digest"]
    with Load(stage.network, *_targets(vips), "--http", "64", "--rate", "500", "--flows", str(FLOWS), "--udp", "4") as load:
        for name in KILLED:
            pid = stage.pids()[name]
            stage.run("lb", f"kill -9 {pid}  # {name}")
            _again(stage, name, pid)
            _count(stage, load)
        stage.run("lb", f"kill -9 {' '.join(map(str, stage.pids().values()))}  # all of Weir")
        for _ in range(3):
            time.sleep(1)
            _count(stage, load)
        stage.check("nothing of Weir runs; the kernel forwards on", holds=not stage.pids())
        stage.up()
        stage.run("lb", "weir status --wait | grep -v ' up\\b\\| following'")
        _count(stage, load)
        report = load.stop()
    stage.check(f"nothing is lost: {_counted(report)}", holds=report.lost == 0)
    _errors(stage, report, report.lost > 0)
    stage.check("the plan is the same, byte for byte", holds=stage.ask("replay")[0]["digest"] == plan)


def _told(stage: Stage) -> None:
    stage.title("The log has it all")
    address, _ = stage.network.addresses(VICTIM)
    stage.run("lb", "weir log tail -n 12")
    why = stage.run("lb", f"weir log why {address}")
    stage.check(f"why {VICTIM} went is on one screen", holds="endpoint_down" in why and why.count("\n") <= 50)
    moment = _while_down(stage, address)
    then, now = stage.run("lb", f"weir replay --at {moment}"), stage.run("lb", "weir replay")
    dead = f"{address}:8080(down)"
    stage.check(f"replayed at {moment}, {VICTIM} is down; now it is not", holds=dead in then and dead not in now)
    stage.run("lb", "weir get lb -o wide")


# ── small parts ────────────────────────────────────────────────────────────────────────────────────────────────────


def _url(vip: str) -> str:
    return f"http://[{vip}]/" if ":" in vip else f"http://{vip}/"


def _ask_all(vip: str) -> str:
    return f"for i in $(seq 30); do curl -s -m 5 '{_url(vip)}'; done | cut -d' ' -f1,2 | {_TALLY}"


def _tally(stage: Stage, command: str) -> dict[str, int]:
    """What `uniq -c` counted, by line."""
    rows = (line.split(maxsplit=1) for line in stage.run("client", command).splitlines())
    return {line: int(count) for count, line in rows}


def _targets(vips: list[str]) -> list[str]:
    return [*(word for vip in vips for word in ("--target", vip)), "--port", "80", "--udp-port", "53"]


def _settled(load: Load, quiet_s: float = 1.5, most_s: float = 10) -> tuple[int, Report]:
    """How long failures went on, in ms, once there were none for `quiet_s`; and the counts then."""
    begun_s = last_s = time.monotonic()
    failed = 0
    while (now_s := time.monotonic()) - last_s < quiet_s and now_s - begun_s < most_s:
        report = load.now()
        if report.http.failed > failed:
            failed, last_s = report.http.failed, now_s
        time.sleep(0.02)
    return round((last_s - begun_s) * 1000), report


def _state(stage: Stage, address: str) -> str:
    return next((str(row["state"]) for row in stage.ask("get ep") if row["host"] == address and row["port"] == 8080), "gone")


def _again(stage: Stage, name: str, pid: int) -> None:
    """Waits until another process of that name, and all others, are at the head of the log.  Raises DemoError."""

    def well(status: Any) -> bool:
        states = {process["name"]: process["state"] for process in status[0]["processes"]}
        return stage.pids().get(name, pid) != pid and set(states.values()) <= {"up", "following"}

    took_s = stage.wait_for(f"{name} at the head of the log", 60, "status", holds=well)
    stage.say(f"  {name} runs again as {stage.pids()[name]}, all services are at the head of the log after {took_s:.1f} s")


def _count(stage: Stage, load: Load) -> None:
    stage.say("  " + _counted(load.now()))


def _counted(report: Report) -> str:
    parts = [
        f"{report.http.failed} of {report.http.sent} requests failed",
        f"{report.flows.failed} of {FLOWS} long flows lost, {report.flows.misdirected} misdirected",
    ]
    if report.udp.sent:
        parts.append(f"{report.udp.failed} of {report.udp.sent} datagrams lost")
    return f"{', '.join(parts)}; longest gap {report.http.longest_gap_ms} ms"


def _errors(stage: Stage, report: Report, wanted: bool) -> None:
    for error in report.errors if wanted else ():
        stage.say(f"  {error.at} {error.what}")


def _while_down(stage: Stage, address: str) -> int:
    """A sequence at which the log has the backend down: the last before it came up again."""
    turns: list[dict[str, Any]] = [
        entry
        for entry in stage.ask(f"log why {address}")
        if entry["event"]["type"] == "endpoint_up" and entry["event"]["address"] == address
    ]
    if not turns:
        raise DemoError(f"no event that {address} came up again")
    return int(turns[-1]["sequence"]) - 1


def _what_to_try(stage: Stage) -> None:
    name = stage.network.name
    print(f"""
Everything is left running.  To try it:
  export WEIR_INSTANCE={name} PATH={Path(sys.executable).parent}:$PATH
  lb() {{ nsenter --net=/run/netns/{name}-lb "$@"; }}; client() {{ nsenter --net=/run/netns/{name}-client "$@"; }}
  lb weir log tail -f                      # and in another terminal:
  client curl http://203.0.113.10/
  $EDITOR {stage.folder}/shop/endpoints.yaml
  kill -9 {stage.network.pid(VICTIM)}                               # the server of {VICTIM}
  lb weir get ct
To end it:
  weir demo --stop""")


def _verdict(failures: list[str], left_over: list[str]) -> int:
    for failure in failures:
        print(f"failed: {failure}")
    for path in left_over:
        print(f"cannot be removed: {path}")
    if not failures and not left_over:
        print("\nAll claims hold.", flush=True)
    return 1 if failures or left_over else 0

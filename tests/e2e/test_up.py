"""`weir up` on a machine that is not as it should be, its end by every way, and commands that find nothing to talk to.

What is in the way is said at once, in one line, with what would mend it.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from services.dataplane.l4.kernel import MAPS
from services.dataplane.l4.layout import LAYOUT
from services.dataplane.plan_file import PlanFile
from tests.own import own
from weir.decider import Fact
from weir.demo.network import Network, wait_until
from weir.demo.stage import EXAMPLE, clear
from weir.pins import Map, libbpf
from weir.view.processes import running
from weir.where import Where

NAME, FILE, READ_ONLY, ABSENT = own("weirup"), own("weirupfile"), own("weirupro"), own("weirupnone")
ROOT = Path(__file__).parents[2]
HASH = 1  # BPF_MAP_TYPE_HASH
NO_BPF = ("setpriv", "--bounding-set", "-bpf")
NO_TYPES = ("unshare", "-m", "sh", "-c", 'mount -t tmpfs none /sys/kernel/btf && exec "$@"', "sh")
NO_WRITING = (
    "unshare",
    "-m",
    "sh",
    "-c",
    f'mkdir -p /var/lib/{READ_ONLY} && mount -t tmpfs -o ro none /var/lib/{READ_ONLY} && exec "$@"',
    "sh",
)


class Machine:
    """Where Weir is to run: a network with one backend, its server started."""

    def __init__(self, network: Network, folder: Path) -> None:
        self.network, self.folder, self.where = network, folder, Where(NAME)
        self.process: subprocess.Popen[str] | None = None
        self.log = folder / "up.log"

    def weir(self, *words: str, instance: str = NAME, wrap: Sequence[str] = (), **env: str) -> subprocess.CompletedProcess[str]:
        """One command to its end.  Nothing of it is coloured: this is no terminal."""
        argv = [*wrap, *command(*words, instance=instance)]
        done = self.network.run("lb", *argv, check=False, cwd=ROOT, env=os.environ | env, timeout=60)
        assert "\x1b" not in done.stdout + done.stderr
        return done

    def ask(self, *words: str) -> Any:
        answer = json.loads(self.weir(*words, "-o", "json").stdout)
        return [answer] if isinstance(answer, dict) else answer

    def up(self) -> None:
        """Running and well afterwards."""
        if not running(self.where):
            words = ("up", "-f", str(self.folder / "shop"), "-i", "front", "-i", "back")
            with self.log.open("a") as log:
                self.process = self.network.popen("lb", *command(*words), cwd=ROOT, stdout=log, stderr=log)
        self.well()

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Asked to end; the exit code."""
        assert self.process
        if number == signal.SIGINT:
            os.killpg(self.process.pid, number)  # as a terminal sends Ctrl-C
        else:
            self.process.send_signal(number)
        return self.process.wait(30)

    def well(self) -> None:
        assert wait_until(lambda: self.ask("status")[0]["ok"], 120), self.log.read_text()[-3000:]

    def pids(self) -> dict[str, int]:
        return running(self.where)

    def serves(self) -> bool:
        """Whether the VIP answers a client."""
        return not self.network.run("client", "curl", "-s", "-m", "2", "http://203.0.113.10/", check=False).returncode

    def maps(self) -> dict[str, dict[bytes, bytes]]:
        names = (name for name in MAPS if not name.endswith("_stats"))
        return {name: dict(Map.open(self.where.pins / f"v{LAYOUT}" / name).items()) for name in names}


def command(*words: str, instance: str = NAME) -> list[str]:
    return [sys.executable, "-m", "weir.cli", *words, "--instance", instance]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    if os.geteuid():
        pytest.skip("namespaces and BPF need root")
    folder = tmp_path_factory.mktemp("up")
    shutil.copytree(EXAMPLE, folder / "shop")
    for name in (NAME, FILE, READ_ONLY):
        clear(name)
    try:
        with Network(NAME) as network:
            network.start()
            yield Machine(network, folder)
    finally:
        for name in (NAME, FILE, READ_ONLY):
            clear(name)


# ── what is in the way ─────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def port_taken(machine: Machine) -> Iterator[None]:
    code = "import socket; s = socket.create_server(('127.0.0.1', 4222)); print(flush=True); input()"
    holder = machine.network.popen("lb", sys.executable, "-c", code, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout
    holder.stdout.readline()
    try:
        yield
    finally:
        holder.communicate("\n")


@contextmanager
def pins_of_another_layout(machine: Machine) -> Iterator[None]:
    directory = machine.where.pins / "v999"
    directory.mkdir(parents=True)
    fd = libbpf().bpf_map_create(HASH, b"foreign", 4, 4, 1, None)
    assert fd >= 0
    assert libbpf().bpf_obj_pin(fd, os.fsencode(directory / "foreign")) == 0
    os.close(fd)
    try:
        yield
        assert machine.weir("down").returncode == 0, "what the message tells to do"
        assert not machine.where.pins.exists()
    finally:
        shutil.rmtree(machine.where.pins, ignore_errors=True)


@contextmanager
def state_is_a_file(machine: Machine) -> Iterator[None]:
    Where(FILE).state.write_text("")
    try:
        yield
    finally:
        Where(FILE).state.unlink()


@contextmanager
def nothing(machine: Machine) -> Iterator[None]:
    yield


IN_THE_WAY = {
    "NATS port taken": (port_taken, {}, ["4222", "--nats-port"]),
    "no such interface": (nothing, {"interface": "nope0"}, ["nope0"]),
    "pins of another layout": (pins_of_another_layout, {}, ["v999", f"v{LAYOUT}", str(Where(NAME).pins)]),
    "no CAP_BPF": (nothing, {"wrap": NO_BPF}, ["CAP_BPF"]),
    "a shell of ip netns exec": (nothing, {"wrap": ["ip", "netns", "exec", f"{NAME}-lb"]}, [f"ip netns exec {NAME}-lb", "nsenter"]),
    "no types of the kernel": (nothing, {"wrap": NO_TYPES}, ["/sys/kernel/btf/vmlinux", "CONFIG_DEBUG_INFO_BTF"]),
    "state directory is a file": (state_is_a_file, {"instance": FILE}, [str(Where(FILE).state)]),
    "state directory cannot be written": (nothing, {"instance": READ_ONLY, "wrap": NO_WRITING}, [str(Where(READ_ONLY).state)]),
}


@pytest.mark.parametrize("what", IN_THE_WAY)
def test_what_is_in_the_way_is_said_at_once_in_one_line_by_up_and_by_check(machine: Machine, what: str) -> None:
    arrange, given, words = IN_THE_WAY[what]
    given = dict(given)
    interface = given.pop("interface", "front")
    with arrange(machine):
        up = machine.weir("up", "-f", str(machine.folder / "shop"), "-i", interface, **given)
        check = machine.weir("check", "-i", interface, **given)
    for done in (up, check):
        assert done.returncode == 1, done
        assert "Traceback" not in done.stderr + done.stdout
    assert up.stderr.startswith("weir: ")
    assert up.stderr.count("\n") == 1
    assert any(all(word in line for word in words) for line in up.stderr.splitlines()), up.stderr
    assert any(all(word in line for word in words) for line in check.stdout.splitlines()), check.stdout
    assert not (Where(given.get("instance", NAME)).pins / f"v{LAYOUT}").exists(), "nothing was touched"
    assert not running(machine.where)


def test_machine_that_lacks_nothing_is_told_so(machine: Machine) -> None:
    done = machine.weir("check", "-i", "front", "-i", "back")
    assert (done.returncode, done.stdout.count("\n")) == (0, 1), done


def test_instance_that_is_up_already_is_not_started_again(machine: Machine) -> None:
    machine.up()
    before = machine.pids()
    done = machine.weir("up", "-f", str(machine.folder / "shop"), "-i", "front")
    assert done.returncode == 1
    assert done.stderr == f"weir: instance {NAME} is already up, pid {before['up']}; choose another name with --instance\n"
    assert machine.pids() == before
    assert machine.weir("check").returncode == 0
    done = machine.weir("down")
    assert done.returncode == 1
    assert "is up" in done.stderr
    assert machine.serves()


# ── files that are not what they should be ─────────────────────────────────────────────────────────────────────────

BROKEN = {
    "empty": lambda _: b"",
    "torn": lambda plan: plan[: len(plan) // 2],
    "foreign": lambda _: b'{"position": "nine", "facts": {}}',
    "another type": lambda _: b"[]",
    "unknown event": lambda plan: plan.replace(b'"vip_planned"', b'"vip_dreamt"'),
    "binary": lambda _: bytes(range(256)),
}


def saved(file: Path) -> dict[str, Fact] | None:
    """The plan that a file and the changes beside it hold; None where they cannot be read."""
    try:
        plan = PlanFile.read(file)
    except msgspec.MsgspecError:
        return None
    return plan.world().facts if plan else None


@pytest.mark.parametrize("how", BROKEN)
def test_plan_file_that_cannot_be_read_is_said_and_the_log_tells_the_plan(machine: Machine, how: str) -> None:
    machine.up()
    file = machine.where.state / "plan.json"
    assert wait_until(lambda: len(saved(file) or ()) == 2 + 4 + 4, 30), "VIPs, frontends and backends, a moment after they are applied"
    before, told, plan, pid = machine.maps(), len(machine.log.read_text()), file.read_bytes(), machine.pids()["dataplane"]
    held = saved(file)
    file.write_bytes(BROKEN[how](plan))
    try:
        done = machine.weir("get", "lb")
        assert (done.returncode, done.stderr.count("\n")) == (0, 1)
        assert str(file) in done.stderr
        os.kill(pid, signal.SIGKILL)
        assert wait_until(lambda: machine.pids().get("dataplane", pid) != pid, 30)
        again = machine.pids()["dataplane"]
        assert wait_until(lambda: saved(file) == held, 30), "it is written anew"
    finally:
        if not saved(file):
            file.write_bytes(plan)
    machine.well()
    said = [line for line in machine.log.read_text()[told:].splitlines() if '"level": "error"' in line]
    # Its facts are not looked at where the kernel holds them already.
    assert how == "unknown event" or any(str(file) in line for line in said), "nothing is passed over in silence"
    assert machine.pids()["dataplane"] == again, "it did not die of it"
    assert machine.maps() == before


@pytest.mark.parametrize("content", [b"", b'{"up": "me"}', b'{"nats": 1}'])
def test_pids_file_that_cannot_be_read_is_nobody_up(machine: Machine, content: bytes) -> None:
    machine.up()
    file = machine.where.run / "pids.json"
    pids = file.read_bytes()
    file.write_bytes(content)
    try:
        for words in (("status",), ("status", "-o", "json"), ("check",)):
            done = machine.weir(*words)
            assert "Traceback" not in done.stderr
            assert done.returncode == (1 if words == ("check",) else 2), done
        done = machine.weir("up", "-f", str(machine.folder / "shop"), "-i", "front")
        assert (done.returncode, done.stderr.count("\n")) == (1, 1), "its NATS holds the port"
    finally:
        file.write_bytes(pids)
    machine.well()


# ── how it ends ────────────────────────────────────────────────────────────────────────────────────────────────────


def gone(pids: dict[str, int]) -> bool:
    return not any(Path(f"/proc/{pid}").exists() for pid in pids.values())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_end_it_takes_all_children_with_it_and_the_kernel_forwards_on(machine: Machine, number: signal.Signals) -> None:
    machine.up()
    pids, before = machine.pids(), machine.maps()
    assert machine.end(number) == 0
    assert wait_until(lambda: gone(pids), 30)
    assert not (machine.where.run / "pids.json").exists()
    assert "Traceback" not in machine.log.read_text()
    assert machine.maps() == before
    assert machine.serves()


def test_with_the_log_away_commands_say_so_and_maps_are_still_shown(machine: Machine) -> None:
    assert not machine.pids(), "ended by the test before"
    for words in (
        ("get", "pools"),
        ("get", "nodes"),
        ("replay",),
        ("log", "tail"),
        ("log", "stat"),
        ("log", "show", "1"),
        ("log", "why", "x"),
        ("backup", str(machine.folder / "backup")),
    ):
        done = machine.weir(*words)
        assert done.returncode == 2, done
        assert done.stderr.startswith(f"weir: the log of instance {NAME} cannot be read: no NATS at ")
        assert done.stderr.count("\n") == 1
    done = machine.weir("status")
    assert done.returncode == 2
    assert "EventLogUnreachable" in done.stdout
    assert "keeps forwarding" in done.stdout
    for noun in ("lb", "ep", "ct"):
        done = machine.weir("get", noun)
        said = done.stderr.replace("No resources found.\n", "")  # flows may have ended
        assert (done.returncode, said) == (0, ""), noun


def test_down_takes_every_pin_and_up_brings_it_back_over_a_foreign_pids_file(machine: Machine) -> None:
    assert not machine.pids()
    done = machine.weir("down")
    assert done.returncode == 0
    assert {"front: detached", "back: detached"} <= set(done.stdout.splitlines())
    assert not machine.where.pins.exists()
    assert not machine.serves()
    done = machine.weir("down")
    assert (done.returncode, done.stderr) == (2, f"weir: packet path of instance {NAME} not found on this machine\n")
    (machine.where.run / "pids.json").write_bytes(b"\x00 no pids \xff")
    machine.up()
    assert machine.serves()


def test_after_a_kill_of_up_alone_its_children_are_gone_and_it_starts_again_at_once(machine: Machine) -> None:
    machine.up()
    pids, before = machine.pids(), machine.maps()
    machine.end(signal.SIGKILL)
    machine.up()
    assert gone(pids)
    assert machine.maps() == before
    assert machine.serves()


def loaders(machine: Machine) -> list[str]:
    """Pids."""
    words = ["pgrep", "-f", f"services.dataplane.load.loader --pins {machine.where.pins} "]
    return subprocess.run(words, capture_output=True, check=False).stdout.decode().split()


@contextmanager
def frozen(pid: Callable[[], int]) -> Iterator[None]:
    """A process as soon as it is there, stopped."""
    assert wait_until(lambda: bool(pid()), 60)
    stopped = pid()
    os.kill(stopped, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(stopped, signal.SIGCONT)


def test_signal_while_the_packet_path_is_loaded_leaves_nothing_running(machine: Machine) -> None:
    if machine.pids():
        machine.end()
    up = command("up", "-f", str(machine.folder / "shop"), "-i", "front")
    process = machine.network.popen("lb", *up, cwd=ROOT, stderr=subprocess.PIPE)
    assert wait_until(lambda: bool(loaders(machine)), 30)
    process.terminate()
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "Traceback" not in err
    assert wait_until(lambda: not loaders(machine), 30)
    machine.up()


def test_status_says_that_weir_starts_and_what_it_waits_for(machine: Machine) -> None:
    if machine.pids():
        machine.end()
    words = ("up", "-f", str(machine.folder / "shop"), "-i", "front", "-i", "back")
    with machine.log.open("a") as log:
        machine.process = machine.network.popen("lb", *command(*words), cwd=ROOT, stdout=log, stderr=log)
    first = f"! instance {NAME} is starting: "

    def says(words: str) -> bool:
        done = machine.weir("status")
        return done.returncode == 1 and done.stdout.startswith(f"{first}{words}\n")

    with frozen(lambda: int((loaders(machine) or [0])[0])):
        done = machine.weir("status")
        assert (done.returncode, done.stdout.splitlines()[0]) == (1, f"{first}loading the packet path")
        assert "✗ log        not reached yet" in done.stdout
    with frozen(lambda: machine.pids().get("nats", 0)):
        assert wait_until(lambda: says("waiting for nats, planner, ipam, watcher, dataplane, health"), 60), machine.weir("status").stdout
    with frozen(lambda: machine.pids().get("planner", 0)):
        assert wait_until(lambda: says("waiting for planner"), 60), machine.weir("status").stdout
    machine.well()
    with frozen(lambda: machine.pids()["planner"]):
        assert wait_until(lambda: "planner    not responding" in machine.weir("status").stdout, 30)
        assert first not in machine.weir("status").stdout, "it has started"
    machine.well()


# ── commands ───────────────────────────────────────────────────────────────────────────────────────────────────────

COMMANDS = (
    *(("status",), ("get", "lb"), ("get", "ep"), ("get", "ct"), ("get", "pools"), ("get", "nodes"), ("replay",), ("replay", "--diff")),
    *(("log", "tail"), ("log", "stat"), ("log", "show", "1"), ("log", "why", "shop/web"), ("down",)),
)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_instance_that_does_not_exist_is_told_from_one_that_is_well(machine: Machine, words: tuple[str, ...]) -> None:
    machine.up()  # its NATS is on the port that every instance has by default
    done = machine.weir(*words, instance=ABSENT)
    assert done.returncode == 2, done
    assert ABSENT in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert words == ("status",) or done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["", "../etc", "a b", "a.b", "a/b", "\x1b[2J", "x" * 64])
def test_name_that_could_lead_elsewhere_is_refused(machine: Machine, name: str) -> None:
    done = machine.weir("status", instance=name)
    assert done.returncode == 2
    assert "expected at most 63 letters, digits, - and _" in done.stderr
    assert "\x1b" not in done.stderr


LISTS = [words for words in COMMANDS if words not in (("down",), ("replay", "--diff"))]


@pytest.mark.parametrize("words", LISTS, ids=" ".join)
def test_json_and_yaml_can_be_read_and_say_the_same(machine: Machine, words: tuple[str, ...]) -> None:
    machine.up()
    shown = machine.weir(*words, "-o", "json")
    assert shown.returncode == 0
    rows = json.loads(shown.stdout)
    assert rows or words == ("get", "ct")
    if words not in (("get", "ct"), ("get", "lb"), ("status",), ("log", "show", "1")):  # counters and clocks move
        assert still(yaml.safe_load(machine.weir(*words, "-o", "yaml").stdout)) == still(rows)


def still(answer: list[dict[str, Any]] | dict[str, Any]) -> list[dict[str, Any]]:
    """Without what a probe in between changes; a single answer is an object."""
    rows = [answer] if isinstance(answer, dict) else answer
    return [{name: value for name, value in row.items() if not name.endswith("delay")} for row in rows]


def test_tail_is_one_json_document_to_a_line(machine: Machine) -> None:
    machine.up()
    lines = machine.weir("log", "tail", "-n", "3", "-o", "jsonl").stdout.splitlines()
    sequences = [json.loads(line)["sequence"] for line in lines]
    assert sequences == list(range(sequences[0], sequences[0] + 3))


def test_terminal_is_coloured_unless_told_otherwise(machine: Machine) -> None:
    machine.up()
    script = "; ".join(f"{sys.executable} -m weir.cli {words}" for words in ("status", "check", "log tail", "get lb", "--help"))
    env = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | {"WEIR_INSTANCE": NAME, "TERM": "xterm-256color"}
    plain = machine.network.run("lb", "script", "-qec", script, "/dev/null", cwd=ROOT, env=env | {"NO_COLOR": "1"}).stdout
    coloured = machine.network.run("lb", "script", "-qec", script, "/dev/null", cwd=ROOT, env=env).stdout
    assert "\x1b" not in plain
    assert "\x1b[32m✓" in coloured


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (
            ("log", "why", "nonsense"),
            1,
            "weir: no events found for 'nonsense'; expected a VIP, namespace/service, Kind/namespace/name, backend address or sequence",
        ),
        (("log", "why", "999999"), 1, "weir: no events found for '999999'"),
        (("log", "why", "\x1b[2Jx"), 1, "weir: no events found for '\\x1b[2Jx'"),
        (("log", "show", "999999"), 1, "weir: no event 999999: the log holds 1 to "),
        (("log", "show", "9" * 30), 1, "weir: no event 999"),
        (("replay", "--at", "yesterday"), 2, "weir: invalid time 'yesterday': expected a sequence"),
        (("replay", "--at", "2026-13-01T00:00"), 2, "weir: invalid time '2026-13-01T00:00'"),
        (("replay", "--at", "-3"), 2, "weir: invalid time '-3'"),
        (("replay", "--at", "²"), 2, "weir: invalid time '²'"),
        (("replay", "--at", "0"), 2, "weir: 0 is before the log begins, at event 1 (20"),
        (("replay", "--at", "999999"), 2, "weir: 999999 is in the future: the log ends at event "),
        (("replay", "--at", "2199-01-01T00:00"), 2, "weir: 2199-01-01T00:00 is in the future: it is 20"),
        (("replay", "--at", "2020-01-01T00:00"), 2, "weir: 2020-01-01T00:00 is before the log begins, at event 1 (20"),
    ],
)
def test_question_without_an_answer_is_said_in_one_line(machine: Machine, words: tuple[str, ...], code: int, said: str) -> None:
    machine.up()
    done = machine.weir(*words)
    assert done.returncode == code, done
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_replay_at_a_time_is_replay_at_the_sequence_reached_by_then(machine: Machine) -> None:
    machine.up()
    entries = [json.loads(line) for line in machine.weir("log", "tail", "-n", "100000", "-o", "jsonl").stdout.splitlines()]
    middle = entries[len(entries) // 2]
    after = next(entry for entry in entries if entry["time"] > middle["time"])
    by_time, by_sequence = machine.weir("replay", "--at", after["time"]), machine.weir("replay", "--at", str(after["sequence"] - 1))
    assert by_time.returncode == 0
    assert (by_time.stdout, by_time.stderr) == (by_sequence.stdout, by_sequence.stderr)
    assert f"at sequence {after['sequence'] - 1}:" in by_time.stderr


def test_shell_completion_is_offered(machine: Machine) -> None:
    ask = f"{sys.executable} -m weir.cli --show-completion bash; exit $?"  # it looks for the shell that it is called from
    script = machine.network.run("lb", "bash", "-c", ask, cwd=ROOT).stdout
    assert "COMPREPLY" in script
    env = os.environ | {"_WEIR_COMPLETE": "complete_bash", "COMP_WORDS": "weir get ", "COMP_CWORD": "2"}
    offered = subprocess.run([Path(sys.executable).with_name("weir")], env=env, text=True, capture_output=True, check=True).stdout
    assert {"lb", "ep", "ct", "pools", "nodes"} <= set(offered.split())

"""A box outside the cluster: it has the packet path, its agent and the prober, and forwards by a log that others write.

The others run on b3, behind a NATS that knows each of them by its key.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.log_server import LogServer, log_server
from tests.own import own
from weir.bus.permissions import CENTRAL, OPERATOR
from weir.cli.box.credentials import credentials
from weir.demo.network import Network, wait_until
from weir.demo.stage import EXAMPLE, clear
from weir.where import Where

BOX, HUB, NODE = own("weirjoin"), own("weirjoinhub"), "lb-1"
ROOT = Path(__file__).parents[2]
URL = "nats://10.77.0.13:4222"
FETCH = ("curl", "-sS", "--max-time", "2", "http://203.0.113.10/")


class Site:
    """A network, a hub on b3 that plans, and a box in "lb"."""

    def __init__(self, network: Network, folder: Path) -> None:
        self.network, self.folder, self.keys = network, folder, folder / "keys"

    def weir(self, place: str, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return self.network.run(place, sys.executable, "-m", "weir.cli", *words, cwd=ROOT, timeout=60, **options)

    def status(self, instance: str = BOX) -> Any:
        """instance: one that is not on this machine shows what services elsewhere report of themselves."""
        env = LogServer(self.keys, URL, self.folder).environment(f"{OPERATOR}.seed")
        done = self.weir("lb", "status", "--instance", instance, "-o", "json", check=False, env=env)
        return json.loads(done.stdout)

    def conditions(self, kind: str) -> list[Any]:
        return [c for service in self.status()["services"] for c in service["conditions"] if c["type"] == kind]

    @contextmanager
    def running(self, place: str, log: str, argv: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
        with (self.folder / log).open("w") as out:
            process = self.network.popen(place, *argv, cwd=ROOT, stdout=out, stderr=out, **options)
            try:
                yield process
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(20)

    @contextmanager
    def hub(self) -> Iterator[None]:
        """NATS and the services that plan."""
        inside = self.network.command("b3")
        with log_server(self.folder, [NODE], 4222, inside, "10.77.0.13") as server, ExitStack() as stack:
            for service in CENTRAL:
                argv = [sys.executable, "-m", f"services.{service}", "--instance", HUB, *([str(EXAMPLE)] if service == "watcher" else [])]
                env = server.environment(f"{service}.seed")
                stack.enter_context(self.running("b3", f"{service}.log", argv, env=env))
            yield

    def join(self, **options: Any) -> Any:
        words = ("join", URL, "--credentials", str(self.keys), "-i", "front", "-i", "back", "--node", NODE, "--instance", BOX)
        return self.running("lb", "box.log", [sys.executable, "-m", "weir.cli", *words], **options)

    def serves(self) -> bool:
        return not self.network.run("client", *FETCH, check=False).returncode

    def told(self) -> str:
        return "\n".join(f"{path.name}: {path.read_text()[-1500:]}" for path in sorted(self.folder.glob("*.log")))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    if os.geteuid():
        pytest.skip("namespaces and BPF need root")
    for name in (BOX, HUB):
        clear(name)
    try:
        credentials(tmp_path / "keys", [NODE], ["10.77.0.13"])
        with Network(BOX) as network:
            network.start()
            yield Site(network, tmp_path)
    finally:
        for name in (BOX, HUB):
            clear(name)


def test_a_box_forwards_by_the_log_of_others_and_on_without_them(site: Site) -> None:
    with site.join() as box:
        with site.hub():
            assert wait_until(site.serves, 60), site.told()
            assert wait_until(lambda: [node["node"] for node in site.status()["nodes"]] == [NODE], 30)
            assert {process["name"] for process in site.status()["processes"]} == {"up", "dataplane", "health", "hello"}
            site.network.stop("b1")
            assert wait_until(lambda: any("10.77.0.11:8080/TCP is down" in problem for problem in site.status()["problems"]), 30), (
                site.told()
            )
        assert site.serves(), "without the log and those who plan"
        box.send_signal(signal.SIGTERM)
        assert box.wait(20) == 0
    assert site.serves(), "and without the box's own services: the kernel forwards on"
    site.weir("lb", "down", "--instance", BOX)
    assert not site.serves()


def test_nothing_is_attached_before_the_log_has_answered_to_our_keys(site: Site) -> None:
    def refused(*words: str) -> str:
        front = ("-i", "front", "--instance", BOX, "--timeout", "1")
        done = site.weir("lb", "join", URL, *front, *words, check=False)
        assert done.returncode == 2, done.stderr
        assert not Where(BOX).pins.exists()
        return done.stderr.splitlines()[-1]

    ours = ("--credentials", str(site.keys), "--node", NODE)
    assert "no NATS at nats://10.77.0.13:4222" in refused(*ours)
    assert "lb-2.seed: no such file; create it with: weir credentials" in refused("--credentials", str(site.keys), "--node", "lb-2")
    with site.hub():
        assert refused("--node", NODE).endswith("give its keys with --credentials FOLDER")
        other = site.folder / "other"
        credentials(other, [NODE], ["10.77.0.13"])
        (other / "ca.crt").write_bytes((site.keys / "ca.crt").read_bytes())
        assert "does not know the key of dataplane-lb-1" in refused("--credentials", str(other), "--node", NODE)


def test_services_elsewhere_are_shown_by_their_signs_of_life_and_a_frozen_one_is_silent(site: Site) -> None:
    rows: dict[str, dict[str, Any]] = {}

    def ok() -> bool:
        status = site.status("elsewhere")
        rows.update({row["name"]: row for row in status["processes"]})
        return bool(status["ok"]) and {row["behind"] for row in rows.values()} == {0}

    with site.hub(), site.join():
        assert wait_until(ok, 60), site.told()
        assert list(rows) == [*CENTRAL, f"dataplane-{NODE}", f"health-{NODE}"]
        for name in list(rows):
            assert wait_until(ok, 60), site.told()  # one that hung for 15 s was started again
            os.kill(rows[name]["pid"], signal.SIGSTOP)
            try:
                begun_s = time.monotonic()
                found = site.status("elsewhere")
                print(f"{name} frozen: reported after {time.monotonic() - begun_s:.1f} s")
                assert not found["ok"]
                assert [each["name"] for each in found["processes"] if each["state"] == "silent"] == [name]
            finally:
                with suppress(ProcessLookupError):
                    os.kill(rows[name]["pid"], signal.SIGCONT)


def test_a_node_that_left_is_not_waited_for_and_none_is_dead_for_its_sake(site: Site) -> None:
    leave = ("leave", URL, "--credentials", str(site.keys), "--node", NODE)
    with site.hub():
        unknown = site.weir("lb", *leave, check=False)
        assert (unknown.returncode, unknown.stderr) == (1, f"weir: node '{NODE}' not found\n")
        with site.join():
            assert wait_until(site.serves, 60), site.told()
            site.network.stop("b1")
            assert wait_until(lambda: bool(site.status()["problems"]), 30), site.told()
            assert site.weir("lb", *leave).stdout == f"node {NODE} removed\n"
            assert wait_until(lambda: [node["node"] for node in site.status()["nodes"]] == [NODE], 30), "it is alive, and says so"
            assert wait_until(lambda: all(c["status"] for c in site.conditions("Programmed")), 30), site.status()
        for seed in site.keys.glob(f"*-{NODE}.seed"):
            seed.unlink()
        assert site.weir("lb", *leave).stdout == f"node {NODE} removed\n"
        told = site.status()
        assert (told["nodes"], told["problems"]) == ([], [])


def test_a_node_of_which_nothing_is_heard_is_called_silent_within_a_minute_and_heard_again_at_once(site: Site) -> None:
    with site.hub(), site.join() as box:
        assert wait_until(site.serves, 60), site.told()
        assert wait_until(lambda: all(c["status"] for c in site.conditions("Programmed")), 30), site.status()
        box.send_signal(signal.SIGSTOP)
        agent = next(process["pid"] for process in site.status()["processes"] if process["name"] == "dataplane")
        os.kill(agent, signal.SIGSTOP)
        try:
            stopped_s = time.monotonic()
            assert wait_until(lambda: not site.status()["nodes"][0]["heard"], 90), site.told()
            print(f"silent after {time.monotonic() - stopped_s:.1f} s")
            assert any("weir leave --node lb-1" in problem for problem in site.status()["problems"])
            assert wait_until(lambda: {c["reason"] for c in site.conditions("Programmed")} == {"NodeSilent"}, 30), site.status()
            assert site.serves(), "its kernel forwards on"
        finally:
            os.kill(agent, signal.SIGCONT)
            box.send_signal(signal.SIGCONT)
        assert wait_until(lambda: site.status()["nodes"][0]["heard"], 30), site.told()
        assert wait_until(lambda: all(c["status"] for c in site.conditions("Programmed")), 30), site.status()


def test_a_box_without_keys_or_with_a_log_of_its_own_is_refused(site: Site) -> None:
    join = ("join", URL, "-i", "front", "--instance", BOX)
    strange = site.weir("lb", *join, "--credentials", str(site.keys), "--node", "lb-9", check=False)
    missing = site.keys / "dataplane-lb-9.seed"
    assert (strange.returncode, strange.stderr) == (
        2,
        f"weir: {missing}: no such file; create it with: weir credentials {site.keys} --node lb-9\n",
    )
    (Where(BOX).state / "nats").mkdir(parents=True)
    own = site.weir("lb", *join, check=False)
    assert (own.returncode, own.stderr) == (1, f"weir: instance {BOX} has a log of its own: choose another name with --instance\n")

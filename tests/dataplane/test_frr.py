"""FRR itself: it takes every configuration that is rendered, and prints it as it was rendered."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from services.dataplane.bgp.config import changes, parse, text_of
from services.dataplane.bgp.places import folder as frr_folder
from services.dataplane.bgp.render import render
from services.dataplane.bgp.vty import NoAnswer, Vty
from tests.own import own
from tests.unit.bgp_plans import PASSWORDS, planned, plans, route, world
from weir.demo.network import wait_until
from weir.events import AnyEvent
from weir.model import BgpSession

BESIDE = {"bgpd": ["-n", "-S"], "bfdd": []}  # without zebra: no session is tried


@pytest.fixture(scope="module")
def sockets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the sockets of bgpd and bfdd, in a network of their own."""
    if os.geteuid():
        pytest.skip("namespaces need root")
    place, folder = own("weirfrr"), tmp_path_factory.mktemp("frr")
    binaries = frr_folder()
    assert binaries, "make setup installs FRR"
    subprocess.run(["ip", "netns", "del", place], capture_output=True, check=False)
    subprocess.run(["ip", "netns", "add", place], check=True)
    folder.chmod(0o777)
    for parent in folder.parents[:2]:
        parent.chmod(parent.stat().st_mode | 0o011)
    daemons = []
    for name, more in BESIDE.items():
        own_files = ["-i", str(folder / f"{name}.pid"), "-z", str(folder / "zserv"), "-f", "/dev/null"]
        own_files += ["--bfdctl", str(folder / "bfdd.sock")] if name == "bfdd" else []
        argv = ["ip", "netns", "exec", place, str(binaries / name), "--vty_socket", str(folder), "-P", "0", *own_files, *more]
        daemons.append(subprocess.Popen(argv, stderr=subprocess.DEVNULL))
    try:
        assert wait_until(lambda: all((folder / f"{name}.vty").exists() for name in BESIDE), 30)
        yield folder
    finally:
        for daemon in daemons:
            daemon.terminate()
            daemon.wait()
        subprocess.run(["ip", "netns", "del", place], check=True)


async def told(folder: Path, name: str, step: list[AnyEvent]) -> tuple[list[str], str]:
    """Bring a daemon to a plan; return what it does not run of it, and its words for that."""
    vty = Vty(folder / f"{name}.vty")
    wanted = render("lb-1", world(*step), PASSWORDS)[name]
    words = await vty.configure(changes(parse(await vty.show("running-config")), wanted))
    running = parse(await vty.show("running-config"))
    return [" ".join(each) for each in wanted if each not in running], "; ".join(words)


async def brought(folder: Path, *steps: list[AnyEvent]) -> list[str]:
    """What the daemons run otherwise than planned, after each step of a plan."""
    wrong: list[str] = []
    for name in BESIDE:
        vty = Vty(folder / f"{name}.vty")
        for step in steps:
            wanted = render("lb-1", world(*step), PASSWORDS)[name]
            words = await vty.configure(changes(parse(await vty.show("running-config")), wanted))
            running = parse(await vty.show("running-config"))
            wrong += [f"{name} prints {each} beyond it" for each in running if each not in wanted]
            wrong += [f"{name} lacks {each}: {words}" for each in wanted if each not in running]
    return wrong


@settings(
    max_examples=60, deadline=None, phases=[Phase.explicit, Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(plans(), plans())
def test_frr_runs_what_is_planned_whatever_it_ran_before(sockets: Path, before: list[AnyEvent], after: list[AnyEvent]) -> None:
    assert asyncio.run(brought(sockets, before, after)) == []


def test_what_frr_refuses_is_found_and_all_else_runs(sockets: Path) -> None:
    inside = planned("b", BgpSession(local_asn=65002, peer_asn=65002, address="192.0.2.2"))  # of another AS than the node's own
    lacking, words = asyncio.run(told(sockets, "bgpd", [planned("a"), inside, route("203.0.113.1")]))
    assert lacking == ["router bgp 65001 neighbor 192.0.2.2 local-as 65002 no-prepend replace-as"]
    assert "same as the remote as" in words


def test_a_daemon_that_is_gone_is_told_from_one_that_refuses(tmp_path: Path, sockets: Path) -> None:
    with pytest.raises(NoAnswer, match="bgpd of FRR does not answer"):
        asyncio.run(Vty(tmp_path / "bgpd.vty").show("running-config"))
    assert asyncio.run(Vty(sockets / "bgpd.vty").configure(["no such command"])) == ["% [BGP] Unknown command: no such command"]
    assert text_of([("router bgp 1",), ("router bgp 1", "bgp router-id 1.1.1.1")]) == "router bgp 1\nbgp router-id 1.1.1.1\nexit\n"

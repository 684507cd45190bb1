"""Facts that come three times and in another order, and a planner that writes what is no longer so: under load, with nothing lost."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from services.dataplane.l4.layout import Frontend
from tests.running import Running, running_weir

# In the client's namespace: how many gratuitous ARPs and unsolicited neighbour advertisements came by until standard input ends.
LISTEN = """
import select, socket, sys
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(3))
print(flush=True)
heard = 0
while True:
    ready, _, _ = select.select([wire, sys.stdin], [], [])
    if sys.stdin in ready:
        break
    frame = wire.recv(2000)
    heard += frame[12:14] == b"\\x08\\x06" and frame[28:32] == frame[38:42]
    heard += frame[12:14] == b"\\x86\\xdd" and frame[20] == 58 and frame[54] == 136 and not frame[58] & 0x40  # a TCP port may look so too
print(heard)
"""


@pytest.fixture(scope="module")
def weir() -> Iterator[Running]:
    with running_weir("weirtwice") as found:
        yield found


@pytest.mark.parametrize("order", ["as they came", "newest first"])
def test_every_fact_three_times_changes_nothing_and_is_announced_once(weir: Running, order: str) -> None:
    before, plan = forwarding(weir), weir.stage.ask("replay")[0]["digest"]
    listener = weir.network.popen("client", sys.executable, "-c", LISTEN, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert listener.stdout
    listener.stdout.readline()
    with weir.under_load():
        told = again(weir, "thrice", order)
        took = weir.settled(60)
    heard = int(listener.communicate("\n")[0])
    print(f"{told} events appended again: settled after {took:.1f} s, announced {heard} times")
    assert weir.stage.ask("replay")[0]["digest"] == plan
    assert forwarding(weir) == before
    assert heard == 0


def test_a_planner_that_is_behind_is_refused_and_changes_nothing(weir: Running) -> None:
    before, plan = forwarding(weir), weir.stage.ask("replay")[0]["digest"]
    with weir.under_load():
        assert again(weir, "stale", "as they came") == 0
        weir.settled(60)
    assert weir.stage.ask("replay")[0]["digest"] == plan
    assert forwarding(weir) == before


def forwarding(weir: Running) -> dict[str, dict[bytes, object]]:
    """What the plan has put into the kernel, but for the sequence that a frontend rests on: said again, the plan is a newer one."""
    maps = weir.maps()
    frontends = {key: replace(Frontend.unpack(value), plan_seq=0) for key, value in maps["frontends"].items()}
    return {**maps, "frontends": frontends}


def again(weir: Running, what: str, order: str) -> int:
    """How many facts were taken."""
    argv = weir.network.command("lb", sys.executable, "-m", "tests.chaos.again", weir.where.instance, what, order)
    return int(subprocess.run(argv, check=True, text=True, stdout=subprocess.PIPE).stdout)

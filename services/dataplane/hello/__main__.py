"""hello: says that this LB node is alive, hears the others, and takes over the VIPs of one that is not.

A process of its own with real-time priority: beside other work in one process, hellos came up to 350 ms late on a busy machine.
"""

import gc
import os
from functools import partial
from pathlib import Path

import structlog

from services.dataplane.announce.peers import PeersFile, peers_path
from services.dataplane.hello.settings import Settings
from services.dataplane.hello.speaker import Speaker, Timing
from services.dataplane.load.interfaces import is_pattern
from weir.pins import LAYOUT, Map
from weir.service.settings import configured
from weir.where import Where

PRIORITY = 20
SLOWER = 3  # times the interval, where the kernel refuses real-time priority

log = structlog.get_logger()


def main() -> None:
    """Run until SIGTERM."""
    settings = configured("hello", Settings)
    where = Where(settings.instance)
    pins = where.pins / f"v{LAYOUT}"
    maps = {name: Map.open(pins / name) for name in ("lb_nodes", "vips")}
    interfaces = [name for word in settings.interface if not is_pattern(name := word.partition("=")[0])]
    timing = Timing(settings.interval_ms * _slowness(), settings.multiplier)
    speaker = Speaker(where, settings.node, interfaces, maps, _key(settings.key), timing)
    gc.freeze()
    speaker.run(partial(PeersFile.read, peers_path(where)))


def _slowness() -> int:
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    except OSError as error:
        log.warning("no_real_time_priority", reason=str(error), slower=SLOWER)
        return SLOWER
    return 1


def _key(path: str) -> bytes:
    if not path:
        log.warning("hellos_without_key", reason="any machine on these links may pretend to be an LB node")
        return b""
    return Path(path).read_bytes().strip()


if __name__ == "__main__":
    main()

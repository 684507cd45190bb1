"""dataplane: makes the kernel of this node match the plan."""

from services.dataplane.core import HEARS, INDEXES, without_root
from services.dataplane.edge import Agent
from services.dataplane.load.interfaces import listed
from services.dataplane.metrics import samples
from weir.decider import Recorder
from weir.service.exporter import exposed
from weir.service.runner import Runner, Where, options, serve


def main() -> None:
    """Runs until SIGTERM."""
    parser = options("dataplane")
    words = "an interface that packets come in by, NAME, NAME=HOOK or BEGINNING*; repeatable"
    parser.add_argument("--interface", action="extend", type=listed, default=[], help=words)
    parser.add_argument("--hook", choices=("auto", "tc", "xdp", "xdp-generic"), default="tc")
    chosen = parser.parse_args()
    where = Where(chosen.instance)
    agent = Agent(where, chosen.node, chosen.hook, chosen.interface)
    runner = Runner(
        "dataplane",
        Recorder(INDEXES),
        HEARS,
        where,
        node=chosen.node,
        opened=agent.opened,
        heard=agent.heard,
        keeps=without_root,
        impaired=agent.impaired,
    )
    agent.start()
    counted = exposed(chosen.metrics, samples(where, agent))
    edges = (
        agent.acknowledge,
        agent.save,
        agent.sweep,
        agent.give_up,
        agent.drain,
        agent.follow_interfaces,
        agent.follow_addresses,
        agent.health_ports.serve,
    )
    serve(runner, *edges, *counted)


if __name__ == "__main__":
    main()

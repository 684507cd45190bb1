"""dataplane: makes the kernel of this node match the plan."""

from services.dataplane.core import HEARS, INDEXES, without_root
from services.dataplane.edge import Agent
from services.dataplane.metrics import samples
from services.dataplane.settings import Settings
from weir.decider import Recorder
from weir.service.exporter import exposed
from weir.service.process import serve
from weir.service.runner import Runner
from weir.service.settings import configured
from weir.where import Where


def main() -> None:
    """Run until SIGTERM."""
    settings = configured("dataplane", Settings)
    where = Where(settings.instance)
    agent = Agent(
        where,
        settings.node,
        settings.hook,
        settings.interface,
        proxy=settings.proxy,
        secrets=settings.secrets,
        hello=settings.hello,
        frr=settings.frr,
    )
    runner = Runner(
        "dataplane",
        Recorder(INDEXES),
        HEARS,
        where,
        node=settings.node,
        opened=agent.opened,
        heard=agent.heard,
        keeps=without_root,
        impaired=agent.impaired,
    )
    agent.start()
    counted = exposed(settings.metrics, samples(where, agent))
    serve(runner, *agent.edges, *counted)


if __name__ == "__main__":
    main()

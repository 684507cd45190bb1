"""Plans for a proxy as tests write them: events in YAML, without the object that each follows from."""

from pathlib import Path
from typing import Any

import msgspec
import yaml

from services.dataplane.core import INDEXES
from weir.decider import Fact, World
from weir.events import AnyEvent

TESTDATA = Path(__file__).parent / "testdata"
NAMES = sorted(path.name.removesuffix(".in.yaml") for path in TESTDATA.glob("*.in.yaml"))
_GATEWAY = {"root": {"kind": "Gateway", "namespace": "shop", "name": "edge"}, "owner": "Gateway/shop/edge"}
_SERVICE = {"root": {"kind": "Service", "namespace": "shop", "name": "web"}}


def event(fields: dict[str, Any]) -> AnyEvent:
    default = _GATEWAY if fields["type"].startswith(("listener_", "virtualhost_")) else _SERVICE
    if fields["type"].endswith("_withdrawn"):
        default = {"root": default["root"]}
    if fields["type"] == "upstream_planned":
        default = {**_SERVICE, "owner": "Service/shop/web"}
    return msgspec.convert(default | fields, AnyEvent)


def events(text: str) -> list[AnyEvent]:
    return [event(fields) for fields in yaml.safe_load(text)]


def world_of(found: list[AnyEvent]) -> World:
    """The n-th event has sequence n."""
    world = World(INDEXES)
    for seq, each in enumerate(found, 1):
        world.evolve(Fact(seq, each))
    return world


def case(name: str) -> World:
    return world_of(events((TESTDATA / f"{name}.in.yaml").read_text()))

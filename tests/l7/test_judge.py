"""Envoy judges what the golden cases give, and a fault is traced to the resource that has it."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from services.dataplane.l7.bootstrap import fixed, serving
from services.dataplane.l7.judge import NoEnvoy, envoy_binary, offenders, verdict
from services.dataplane.l7.listeners import listener
from services.dataplane.l7.protobuf import Files, Json
from services.dataplane.l7.resources import resources
from services.dataplane.l7.routes import route_configuration, virtual_host
from tests.l7.certificates import Authority
from tests.l7.plans import NAMES, case, event
from weir.events import ListenerPlanned, VirtualHostPlanned


def _missing() -> str:
    try:
        envoy_binary()
    except NoEnvoy as error:
        return str(error)
    return ""


pytestmark = pytest.mark.skipif(bool(_missing()), reason=_missing())


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki"))


@pytest.mark.parametrize("name", NAMES)
def test_envoy_accepts_what_the_golden_cases_give(name: str, tmp_path: Path, authority: Authority) -> None:
    world, files = case(name), Files(str(tmp_path), str(tmp_path))
    found = resources(world, "n1", files)
    paths = [*(files.endpoints(each) for each in found.clusters), *(files.secret(each) for each in found.secrets)]
    for path in paths:
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).write_text("{}")
    listeners = [listener(each, files, found.routes) for each in world.of(ListenerPlanned)]
    text = msgspec.json.encode(fixed("n1", listeners, found.clusters.values()))
    config = msgspec.json.decode(text.replace(b'"PEM"', msgspec.json.encode(authority.pem)))
    assert asyncio.run(verdict(config)) == ""


def _host(name: str, regex: str) -> Json:
    rule = {"route": "HTTPRoute/shop/web", "rule": "0", "match": {"path": {"kind": "RegularExpression", "value": regex}}}
    fields = {"type": "virtualhost_planned", "port": 80, "chain": "http", "hostname": name, "rules": [rule]}
    planned = event(fields)
    assert isinstance(planned, VirtualHostPlanned)
    return virtual_host([planned], 1, "http")


def test_faults_among_many_are_found_with_few_checks() -> None:
    hosts = [_host(f"h{number}.example.com", "(" if number in (17, 90) else "/ok") for number in range(100)]
    asked = 0

    async def judge(some: Sequence[Json]) -> str:
        nonlocal asked
        asked += 1
        return await verdict(fixed("n1", [serving(route_configuration("routes", some))], []))

    found = asyncio.run(offenders(hosts, judge))
    assert [host["name"] for host, _ in found] == ["h17.example.com", "h90.example.com"]
    assert all("missing )" in reason for _, reason in found)
    assert asked < 22

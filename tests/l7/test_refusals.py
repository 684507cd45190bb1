"""What Envoy refuses is reported of one entity, in its words; everything else goes on and changes."""

import asyncio
import socket
from pathlib import Path
from unittest.mock import patch

import pytest

from services.dataplane.applier import Step
from services.dataplane.l7.judge import verdict
from tests.l7.backend import ask
from tests.l7.proxy import Proxy
from tests.l7.test_proxy import LISTENER, VIP, WEB, host, rule, run, upstream

pytestmark = pytest.mark.usefixtures("loopback")
BAD = "    - {route: HTTPRoute/evil/x, rule: bad, shares: [{upstream: 'shop/web:80'}], %s}\n"
BAD_MATCH = BAD % "match: {path: {kind: RegularExpression, value: '/('}}"
CHANGE = "[{type: RequestHeaderModifier, headers: {set: [{name: ':path', value: x}]}}]"
BAD_FILTER = BAD % f"match: {{path: {{value: /bad}}}}, filters: {CHANGE}"


async def reported(found: Proxy, text: str) -> int:
    """How many times Envoy was asked to judge, at 0.1 s each, until the plan was applied and the fault reported."""
    with patch("services.dataplane.l7.refusals.verdict", wraps=verdict) as asked:
        await found.planned(text)
    assert found.applier.rejections()
    return asked.call_count


@pytest.mark.parametrize(("bad", "answers", "words"), [(BAD_MATCH, 404, "missing )"), (BAD_FILTER, 500, ":-prefixed")])
def test_a_bad_rule_is_reported_and_its_neighbours_go_on(tmp_path: Path, bad: str, answers: int, words: str) -> None:
    hosts = "".join(host(rule("/"), f"h{number}.example.com") for number in range(200))

    async def test(found: Proxy) -> None:
        await found.planned(LISTENER + WEB + hosts + host(rule("/ok")))
        checks = await reported(found, host(rule("/ok") + bad + rule("/new")) + host(rule("/new"), "h7.example.com"))
        assert checks <= 8
        rejection = found.applier.rejections()[0]
        assert rejection.owner == "HTTPRoute/evil/x"
        assert rejection.entity.startswith("planner.virtualhost.shop.")
        assert words in rejection.reason
        assert len(found.applier.rejections()) == 1
        asked = {"/ok": 200, "/new": 200, "/bad": answers}
        assert {path: (await ask(VIP, 80, path)).status for path in asked} == asked
        assert (await ask(VIP, 80, "/new", host="h7.example.com")).status == 200
        await found.planned(host(rule("/ok") + rule("/bad")))
        assert found.applier.rejections() == []
        assert (await ask(VIP, 80, "/bad")).status == 200

    run(tmp_path, test)


def test_a_listener_whose_port_is_taken_is_reported(tmp_path: Path) -> None:
    async def test(found: Proxy) -> None:
        await found.planned(LISTENER + WEB + host(rule("/")))
        with socket.create_server((VIP, 81)):
            await reported(found, LISTENER.replace("port: 80,", "port: 81,") + LISTENER.replace("port: 80,", "port: 82,"))
            assert [("81" in each.entity, "Address already in use" in each.reason) for each in found.applier.rejections()] == [(True, True)]
            assert (await ask(VIP, 82)).status == 404

    run(tmp_path, test)


def test_an_upstream_that_envoy_refuses_is_reported_and_keeps_its_last_form(tmp_path: Path) -> None:
    bad = ", tls: {server_name: x.example.com, pem: not a certificate}"

    async def test(found: Proxy) -> None:
        await found.planned(LISTENER + WEB + host(rule("/") + rule("/b", shares="[{upstream: 'shop/b:80'}]")) + upstream("b", 8080))
        await reported(found, upstream("b", 8080, bad) + upstream("c", 8080))
        assert [("b:80" in each.entity or "b=" in each.entity) for each in found.applier.rejections()] == [True]
        assert (await ask(VIP, 80, "/b")).status == 200
        await found.planned(host(rule("/c", shares="[{upstream: 'shop/c:80'}]")))
        assert (await ask(VIP, 80, "/c")).status == 200

    run(tmp_path, test)


def test_a_plan_made_while_envoy_is_dead_is_on_disk_and_acknowledged_when_it_serves(tmp_path: Path) -> None:
    async def test(found: Proxy) -> None:
        await found.planned(LISTENER + WEB + host(rule("/")))
        found.kill()
        position = found.plan(host(rule("/later")))
        async with asyncio.timeout(5):
            while b"/later" not in Path(found.files.routes("Gateway/shop/edge:80 http")).read_bytes():
                await asyncio.sleep(0.01)
        await asyncio.sleep(0)
        assert found.applier.through < position
        found.start()
        await found.applied(position)
        assert (await ask(VIP, 80, "/later")).status == 200

    run(tmp_path, test)


def test_an_agent_that_starts_again_writes_nothing_that_stands(tmp_path: Path) -> None:
    async def test(found: Proxy) -> None:
        await found.planned(LISTENER + WEB + host(rule("/")))
        files = {path: path.stat().st_mtime_ns for path in tmp_path.glob("envoy/*/*.json")}
        assert len(files) == 4
        again = Proxy(tmp_path)
        again.world, again.position = found.world, found.position
        again.applier.apply(Step(again.world, None, {}, again.position))
        task = asyncio.ensure_future(again.applier.serve(None))  # type: ignore[arg-type]
        await again.applied(found.position)
        task.cancel()
        assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("envoy/*/*.json")} == files

    run(tmp_path, test)


def test_without_a_binary_to_check_with_the_refused_file_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(found: Proxy) -> None:
        await found.planned(LISTENER + WEB + host(rule("/ok")))
        monkeypatch.setenv("WEIR_ENVOY", "/nonexistent")
        await found.planned(host(rule("/ok") + BAD_MATCH))
        assert [("/nonexistent" in each.reason, "rds" in each.entity) for each in found.applier.rejections()] == [(True, True)]
        assert (await ask(VIP, 80, "/ok")).status == 200
        await found.planned(host(rule("/ok") + rule("/bad")))
        assert found.applier.rejections() == []
        assert (await ask(VIP, 80, "/bad")).status == 200

    run(tmp_path, test)

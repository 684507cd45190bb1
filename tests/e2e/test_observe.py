"""What a running Weir says of itself: metrics beside what the commands show, its log verified, dumped, replayed from the file."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.running import Running, running_weir
from weir.demo.network import wait_until
from weir.service.metrics import BY_NAME, EVERY, METRICS
from weir.view.processes import SERVICES

PORT = 9600
REQUESTS = 20
Metrics = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture(scope="module")
def weir() -> Iterator[Running]:
    with running_weir("weirobserve", f"--metrics 127.0.0.1:{PORT}") as found:
        vip = found.vips()[0]
        for _ in range(REQUESTS):
            url = f"http://[{vip}]/" if ":" in vip else f"http://{vip}/"
            found.network.run("client", "curl", "-s", "-m", "2", url)
        yield found


def run(weir: Running, *words: str) -> "subprocess.CompletedProcess[str]":
    return weir.network.run("lb", *weir.command(*words), check=False, cwd=Path.cwd())


def scrape(weir: Running, service: str) -> Metrics:
    url = f"http://127.0.0.1:{PORT + SERVICES.index(service)}/metrics"
    text = weir.network.run("lb", "curl", "-s", "-m", "5", url).stdout
    families = text_string_to_metric_families(text)
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics[name, tuple(sorted(labels.items()))]


@pytest.mark.parametrize("service", SERVICES)
def test_service_serves_its_metrics_and_no_other(weir: Running, service: str) -> None:
    metrics = scrape(weir, service)
    served = {name for name, _ in metrics if name.startswith("weir_")}
    families = {name for name in served if name in BY_NAME} | {name.removesuffix("_count") for name in served if name.endswith("_count")}
    wanted = {metric.name for metric in METRICS if metric.service in (service, EVERY)}
    unsaid = {"weir_events_heard_total", "weir_events_appended_total"}  # a service may have had nothing to hear or say yet
    unsaid |= {"weir_cluster_kinds_lost", "weir_writes_refused"}  # no cluster is followed here
    unsaid |= {"weir_bgp_session_up", "weir_bfd_session_up"}  # nor is there a router
    assert wanted - unsaid <= families <= wanted
    assert value(metrics, "weir_following") == 1
    assert value(metrics, "weir_sessions_total") >= 1
    assert value(metrics, "process_resident_memory_bytes") > 1 << 20


def test_traffic_is_counted_as_the_commands_show_it(weir: Running) -> None:
    before = {row["name"]: row["counters"] for row in weir.stage.ask("get lb")}
    dataplane = scrape(weir, "dataplane")
    web = [row for row in weir.stage.ask("get lb") if row["name"] == "shop/web"]
    assert before
    assert value(dataplane, "weir_service_flows_total", service="shop/web") >= REQUESTS
    assert value(dataplane, "weir_service_flows_total", service="shop/web") <= sum(row["counters"]["flows"] for row in web)
    counted = {row["verdict"]: row["packets"] for row in weir.stage.ask("get verdicts") if not row["dropped"]}
    assert 0 < value(dataplane, "weir_packets_total", verdict="forwarded") <= counted["forwarded"]
    assert value(dataplane, "weir_vips_announced") == len(weir.vips())
    assert value(dataplane, "weir_conntrack_entries") > 0
    assert value(dataplane, "weir_rejected") == 0


def test_metrics_agree_with_the_log(weir: Running) -> None:
    (pool,) = weir.stage.ask("get pools")
    ipam, planner, watcher, health = (scrape(weir, name) for name in ("ipam", "planner", "watcher", "health"))
    assert value(ipam, "weir_pool_addresses", pool=pool["name"]) == pool["total"]
    assert value(ipam, "weir_pool_vips", pool=pool["name"], state="held") == pool["used"] == len(weir.stage.ask("get vips"))
    services = weir.stage.ask("status")[0]["services"]
    assert value(planner, "weir_services", state="programmed") == len(services)
    assert 0 < value(planner, "weir_log_bytes", stream="WEIR") < value(planner, "weir_log_limit_bytes", stream="WEIR")
    assert value(watcher, "weir_objects", kind="service") >= len(services)
    assert value(watcher, "weir_manifest_files") == len(list((weir.stage.folder / "shop").glob("*.yaml")))
    assert value(health, "weir_backends_probed") == len([row for row in weir.stage.ask("get ep") if row["ptype"]])
    assert value(health, "weir_probes_total", result="good") > 0


def test_log_verifies_and_a_dump_of_it_has_its_digest(weir: Running, tmp_path: Path) -> None:
    file = tmp_path / "log"
    live = weir.stage.ask("log verify")[0]
    assert run(weir, "log", "dump", str(file)).returncode == 0
    dumped = json.loads(run(weir, "log", "verify", "--from", str(file), "-o", "json").stdout)
    assert live["faults"] == dumped["faults"] == []
    again = weir.stage.ask("log verify")[0]
    assert dumped["last"] > live["last"] or dumped["digest"] == live["digest"]
    assert again["last"] >= dumped["last"] >= live["last"]


def test_replay_of_a_dump_is_the_replay_of_the_log(weir: Running, tmp_path: Path) -> None:
    file = tmp_path / "log"
    run(weir, "log", "dump", str(file))
    last = json.loads(file.read_text().splitlines()[-1])["sequence"]
    for moment in (str(last), str(last // 2)):
        assert run(weir, "replay", "--at", moment).stderr == run(weir, "replay", "--at", moment, "--from", str(file)).stderr
    assert run(weir, "log", "why", "shop/web", "--from", str(file)).stdout
    assert run(weir, "log", "tail", "-n", "3", "--from", str(file)).stdout.count("\n") == 3
    assert run(weir, "diff", str(last // 2), "--from", str(file)).returncode == 1


def test_recording_cut_short_is_not_taken_for_a_whole_one(weir: Running, tmp_path: Path) -> None:
    file = tmp_path / "log"
    run(weir, "log", "dump", str(file))
    file.write_bytes(file.read_bytes()[:-200])
    told = run(weir, "replay", "--from", str(file))
    assert told.returncode == 2
    assert "truncated" in told.stderr


def test_edit_is_told_by_diff_by_watch_and_stays_in_sync(weir: Running) -> None:
    before = weir.stage.ask("log verify")[0]["last"]
    watching = weir.network.popen("lb", *weir.command("get", "lb", "-w", "-o", "json"), cwd=Path.cwd(), stdout=subprocess.PIPE, text=True)
    try:
        assert watching.stdout
        shown = json.loads(watching.stdout.readline())
        assert shown["change"] == "added"
        service = weir.stage.folder / "shop" / "service.yaml"
        service.write_text(service.read_text().replace("port: 80,", "port: 8080,"))
        for line in watching.stdout:
            row = json.loads(line)
            if (row["change"], row["port"]) == ("added", 8080):
                break
    finally:
        watching.kill()
        watching.wait()
    weir.settled(60)
    rows = {(row["change"], row["kind"]) for row in weir.stage.ask(f"diff {before}")}
    assert {("changed", "service"), ("added", "frontend"), ("removed", "frontend")} <= rows
    text = run(weir, "diff", str(before))
    assert text.returncode == 1
    assert "8080" in text.stdout
    synced: Any = weir.stage.ask("sync")[0]
    assert run(weir, "sync").returncode == 0, synced
    assert [node["behind"] for node in synced["nodes"]] == [0]
    held = {row["map"]: (row["held"], row["planned"], row["differ"]) for row in synced["maps"]}
    assert held["frontends"][0] == held["frontends"][1] == len(weir.stage.ask("get lb"))
    assert {differ for _, _, differ in held.values()} == {0}


def test_describe_names_the_backend_that_is_down_since_when_and_why(weir: Running) -> None:
    since = weir.stage.ask("log verify")[0]["last"]
    weir.network.stop("b1")
    try:
        assert wait_until(lambda: len(weir.stage.ask("describe svc web")[0]["down"]) == 2, 30)
        assert weir.stage.ask("get svc web")[0]["ready"] == "2/3"
        (web,) = weir.stage.ask("describe svc web")
        found = weir.stage.ask(f"log tail --since {since} --service web --kind endpoint_down")
    finally:
        weir.network.start("b1")
    down = {row["backend"]: row for row in web["down"]}
    assert sorted(down) == ["10.77.0.11:8080/TCP", "[fd77::11]:8080/TCP"]
    for entry in found:
        event = entry["event"]
        row = down["[fd77::11]:8080/TCP" if ":" in event["address"] else "10.77.0.11:8080/TCP"]
        assert (row["reason"], row["node"]) == (event["reason"], event["node"])
        assert row["since"][:23] == entry["time"][:23]
    assert "endpoint_down" in {entry["event"]["type"] for entry in web["events"]} | {entry["event"]["type"] for entry in found}
    assert wait_until(lambda: weir.stage.ask("describe svc web")[0]["down"] == [], 30)
    weir.settled(60)

"""What `weir migrate` makes of Services with addresses, of a kube-loxilb behind a shell, and of its own kinds."""

import shlex
from pathlib import Path

import pytest
import yaml
from test_kube_loxilb import given, read_manifest
from test_migrate import field, pool
from typer.testing import CliRunner

from services.watcher.kinds.fields import Field
from services.watcher.options import read_options
from services.watcher.settings import DEFAULT
from weir.cli.__main__ import app
from weir.cli.migrate.kube_loxilb import migrate as of_kube_loxilb
from weir.cli.migrate.manifests import MigrateError, problems_of
from weir.cli.migrate.metallb import migrate

# ── addresses that are kept ────────────────────────────────────────────────────────────────────────────────────────

HELD = """
apiVersion: v1
kind: Service
metadata:
  name: web
  namespace: shop
  uid: 1-2
  resourceVersion: "7"
  creationTimestamp: "2026-01-01T00:00:00Z"
  managedFields: []
  labels: {app: web}
  annotations: {kubectl.kubernetes.io/last-applied-configuration: "{}\\n", note: "two\\nlines", ANNOTATIONS}
spec: {type: LoadBalancer, clusterIP: 10.0.0.9, ports: [{port: 80, nodePort: 30080}], SPEC}
status: {loadBalancer: {ingress: [INGRESS]}}
"""
SPEC = {"type": "LoadBalancer", "clusterIP": "10.0.0.9", "ports": [{"port": 80, "nodePort": 30080}]}


def held(ingress: str = "{ip: 192.0.2.3}", annotations: str = "a: b", spec: str = "") -> Field:
    return field(HELD.replace("INGRESS", ingress).replace("ANNOTATIONS", annotations).replace("SPEC", spec))


CLASS = "loadBalancerClass: loxilb.io/loxilb"
KUBE_LOXILB = "{kind: Deployment, spec: {template: {spec: {containers: [{name: kube-loxilb, args: [--cidrPools=defaultPool=RANGE]}]}}}}"
STATUSES = {
    "an address": ("{ip: 192.0.2.3, ipMode: VIP}", "", {"weir.dev/ips": "192.0.2.3"}),
    "a hostname": ("{hostname: llb-192.0.2.3}", "", {"weir.dev/ips": "192.0.2.3"}),
    "of a zone with a dash": ("{hostname: eu-1-192.0.2.3}", "", {"weir.dev/ips": "192.0.2.3"}),
    "both families": ("{ip: 192.0.2.3}, {ip: '2001:db8::3'}", "", {"weir.dev/ips": "192.0.2.3,2001:db8::3"}),
    "one of another pool": (
        "{ip: 192.0.2.3}, {ip: 192.0.2.9}",
        "loxilb.io/poolSelectSecondary: more",
        {"weir.dev/ips": "192.0.2.3", "weir.dev/more-ips": "192.0.2.9"},
    ),
}


@pytest.mark.parametrize(("ingress", "annotations", "asked"), STATUSES.values(), ids=STATUSES)
def test_a_service_asks_for_the_addresses_it_has_and_nothing_else_of_it_changes(
    ingress: str, annotations: str, asked: dict[str, str]
) -> None:
    deployment = field(KUBE_LOXILB.replace("RANGE", "192.0.2.0/24"))
    service = held(ingress, annotations or "a: b", CLASS)
    made, _ = of_kube_loxilb([service, deployment], keep=True).manifests
    stood = {"note": "two\nlines", **yaml.safe_load(f"{{{annotations or 'a: b'}}}")}
    metadata = {"name": "web", "namespace": "shop", "labels": {"app": "web"}, "annotations": {**stood, **asked}}
    spec = {**SPEC, "loadBalancerClass": "loxilb.io/loxilb"}
    assert made == {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}
    assert problems_of(made) == []


STAY = {
    "it asks by the spec": held(spec=f"loadBalancerIP: 192.0.2.3, {CLASS}"),
    "it asks by an annotation": held(annotations="loxilb.io/staticIP: 192.0.2.3", spec=CLASS),
    "it has none": held("", spec=CLASS),
}
OTHERS = {"it is of another class": held(spec="loadBalancerClass: a/b"), "it is of no class": held()}


@pytest.mark.parametrize("service", STAY.values(), ids=STAY)
def test_a_service_that_needs_no_asking_stays_as_it_is(service: Field) -> None:
    deployment = field(KUBE_LOXILB.replace("RANGE", "192.0.2.0/24"))
    for keep in (True, False):
        found = of_kube_loxilb([deployment, service], keep=keep)
        assert ([made["kind"] for made in found.manifests], found.notes) == (["VIPPool"], [])


@pytest.mark.parametrize("service", OTHERS.values(), ids=OTHERS)
def test_a_service_that_stays_anothers_is_named(service: Field) -> None:
    deployment = field(KUBE_LOXILB.replace("RANGE", "192.0.2.0/24"))
    for keep in (True, False):
        found = of_kube_loxilb([deployment, service], keep=keep)
        assert [made["kind"] for made in found.manifests] == ["VIPPool"]
        assert found.notes == ["1 Services stay another's by their loadBalancerClass, or by having none: shop/web"]


def test_without_the_option_addresses_that_would_be_drawn_anew_are_counted() -> None:
    asking = held(annotations="metallb.io/loadBalancerIPs: 192.0.2.4")
    found = migrate([pool(), held(), held("{ip: 192.0.2.5}"), asking])
    assert [made["kind"] for made in found.manifests] == ["VIPPool", "Service"]
    assert (
        [note for note in found.notes if note.startswith("2 Services have addresses") and "--keep-addresses" in note] == found.notes != []
    )


def test_services_ask_before_there_are_pools_and_what_cannot_be_kept_is_told() -> None:
    services = [
        held("{ip: 192.0.2.3}", "metallb.universe.tf/address-pool: cheap"),
        held("{ip: 198.51.100.1}"),
        held("{hostname: lb.example}"),
        held("{ip: '2001:db8::3'}", spec="ipFamilies: [IPv4]"),
    ]
    found = migrate([pool(), *services], keep=True)
    assert [made["kind"] for made in found.manifests] == ["Service", "Service", "VIPPool"]
    first = found.manifests[0]["metadata"]["annotations"]
    assert first == {"note": "two\nlines", "weir.dev/pool": "cheap", "weir.dev/ips": "192.0.2.3"}
    told = ["198.51.100.1 is of no pool here", "no address in 'lb.example' of its status", "2001:db8::3 not kept: "]
    assert len(found.notes) == len(told)
    assert all(f"Service shop/web: {words}" in note for words, note in zip(told, found.notes, strict=True))


def test_kept_addresses_are_given_whoever_comes_first() -> None:
    held_before = {"a": "10.0.0.3", "b": "10.0.0.1", "c": "10.0.0.2"}
    services = [held(f"{{hostname: llb-{vip}}}", spec=CLASS) for vip in held_before.values()]
    for name, service in zip(held_before, services, strict=True):
        assert isinstance(service.value, dict)
        service.value["metadata"]["name"] = name
    manifests = of_kube_loxilb([*services, field(KUBE_LOXILB.replace("RANGE", "10.0.0.0/24"))], keep=True).manifests
    facts = [reading.event for manifest in manifests for reading in read_manifest(manifest)]
    assert given(*facts) == ({vip: (f"shop/{name}",) for name, vip in held_before.items()}, {})


# ── what starts kube-loxilb, and its own kinds ─────────────────────────────────────────────────────────────────────

SCRIPTS = {
    "of one line": "/bin/kube-loxilb --cidrPools=defaultPool=192.0.2.0/24 --setLBMode=2",
    "of quotes": "exec kube-loxilb '--cidrPools=defaultPool=192.0.2.0/24' --setLBMode \"2\" 2>&1 | tee --append /log",
    "of several lines": "# kube-loxilb's\n/bin/kube-loxilb \\\n  --cidrPools=defaultPool=192.0.2.0/24 \\\n --setLBMode=2\necho --z",
    "that tells first": "echo starting kube-loxilb && kube-loxilb --cidrPools=defaultPool=192.0.2.0/24 --setLBMode=2; true --zone=x",
}


def started(*words: str) -> Field:
    container = {"name": "lb", "command": list(words)}
    return Field({"kind": "Deployment", "spec": {"template": {"spec": {"containers": [container]}}}}, "", {})


@pytest.mark.parametrize("shell", [["sh", "-c"], ["/bin/bash", "-ec"], ["/tini", "--", "/bin/sh", "-c"]])
@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_flags_are_found_behind_a_shell(script: str, shell: list[str]) -> None:
    found = of_kube_loxilb([started(*shell, script)])
    (made,) = found.manifests
    assert made["spec"]["addresses"] == ["192.0.2.1-192.0.2.254"]
    assert found.options == ["--no-default-class", "--mode", "fullnat", "--targets", "nodes", "--status-hostname", "llb"]
    assert found.notes == []


@pytest.mark.parametrize(
    ("script", "told"), [("/kube-loxilb.sh --zone=x", "neither a container"), ("kube-loxilb '--zone", "No closing quotation")]
)
def test_a_script_that_does_not_start_it_is_told(script: str, told: str) -> None:
    with pytest.raises(MigrateError, match=told):
        of_kube_loxilb([started("sh", "-c", script)])


KINDS = {
    "a pool": ("LoxiURL", "{type: cidrpool, loxiURL: 'p2=192.0.2.0/28'}", ["p2"], "converted to VIPPools"),
    "a pool of its name": ("LoxiURL", "{type: cidrpool, loxiURL: 192.0.2.8-192.0.2.9}", ["odd"], "converted to VIPPools"),
    "no pool": ("LoxiURL", "{type: cidrpool, loxiURL: 'http://192.0.2.1:11111'}", [], "without a pool in its loxiURL; write"),
    "an address": ("LoxiURL", "{loxiURL: 'http://192.0.2.1:11111'}", [], "no load balancer is called"),
    "BGP": ("BGPPeerService", "{ipAddress: 192.0.2.1}", [], "give kube-loxilb's --setBGP"),
    "another": ("Egress", "{addresses: [192.0.2.1]}", [], "not served"),
}


@pytest.mark.parametrize(("kind", "spec", "names", "told"), KINDS.values(), ids=KINDS)
def test_an_object_of_a_kind_of_kube_loxilb_is_a_pool_or_told(kind: str, spec: str, names: list[str], told: str) -> None:
    other = field(f"{{apiVersion: {kind.lower()}.loxilb.io/v1, kind: {kind}, metadata: {{name: odd}}, spec: {spec}}}")
    found = of_kube_loxilb([other, field(KUBE_LOXILB.replace("RANGE", "10.0.0.0/24"))])
    assert [made["metadata"]["name"] for made in found.manifests] == ["defaultpool", *names]
    (note,) = found.notes if names else found.left_out
    assert note.startswith(f"{kind} odd: ")
    assert told in note


# ── the command ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_options_are_a_piece_of_a_kustomization_that_the_watcher_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "kube-loxilb.yaml"
    file.write_text(KUBE_LOXILB.replace("RANGE", "10.0.0.0/24").replace("args: [", "args: [--monitor, --setLBMode=2, "))
    ended = CliRunner().invoke(app, ["migrate", "kube-loxilb", str(file)])
    comments = [line.removeprefix("#") for line in ended.stdout.splitlines() if line.startswith("#")][1:]
    (generator,) = yaml.safe_load("\n".join(comments))["configMapGenerator"]
    (literal,) = generator["literals"]
    key, _, options = literal.partition("=")
    assert (generator["name"], generator["behavior"], key) == ("weir-settings", "merge", "watcher")
    assert [shlex.split(line) for line in options.splitlines()] == [[line] for line in options.splitlines()], "as a shell reads it too"
    (tmp_path / "watcher").write_text(options)
    monkeypatch.setattr("sys.argv", ["weir-watcher", "--cluster=local", "--mode=onearm", "--targets=endpoints", f"@{tmp_path}/watcher"])
    chosen = read_options()
    assert chosen.settings == DEFAULT._replace(default_class=False, mode="fullnat", targets="nodes", liveness=True)
    assert chosen.status_hostname == "llb"


def test_addresses_are_kept_by_the_command(tmp_path: Path) -> None:
    file = tmp_path / "all.yaml"
    services = {"apiVersion": "v1", "kind": "List", "items": [held("{hostname: llb-10.0.0.9}", spec=CLASS).value]}
    file.write_text(f"{yaml.safe_dump(services)}---\n{KUBE_LOXILB.replace('RANGE', '10.0.0.0/24')}")
    ended = CliRunner().invoke(app, ["migrate", "kube-loxilb", "--keep-addresses", str(file)])
    assert (ended.exit_code, ended.stderr) == (0, "")
    service, _ = yaml.safe_load_all(ended.stdout)
    assert service["metadata"]["annotations"]["weir.dev/ips"] == "10.0.0.9"

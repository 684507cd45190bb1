"""MetalLB's pools and annotations as Weir's, and the command that prints them."""

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from services.watcher.kinds.fields import Field
from services.watcher.kinds.reader import read
from services.watcher.settings import DEFAULT
from services.watcher.sources.yaml_documents import documents
from weir.cli.__main__ import app
from weir.cli.migrate.manifests import MigrateError, problems_of
from weir.cli.migrate.metallb import migrate

CRD = Path(__file__).parents[2] / "deploy/crds/vippool.yaml"
POOL = """
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: NAME, namespace: metallb-system}
spec: {addresses: [RANGE], MORE}
"""


def pool(name: str = "cheap", addresses: str = "192.0.2.0/28", more: str = "") -> Field:
    return field(POOL.replace("NAME", name).replace("RANGE", addresses).replace("MORE", more))


def field(text: str) -> Field:
    return Field(yaml.safe_load(text), "", {})


OFFERS = {
    "plain": ("", {"autoAssign": True, "avoidBuggyIPs": False, "priority": 0}),
    "on request": ("autoAssign: false, avoidBuggyIPs: true", {"autoAssign": False, "avoidBuggyIPs": True, "priority": 0}),
    "of namespaces": (
        "serviceAllocation: {namespaces: [a, b]}",
        {
            "autoAssign": True,
            "avoidBuggyIPs": False,
            "priority": 1,
            "namespaceSelector": {"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["a", "b"]}]},
        },
    ),
    "of selected Services": (
        "serviceAllocation: {priority: 50, serviceSelectors: [{matchLabels: {x: y}}], namespaceSelectors: [{matchLabels: {t: u}}]}",
        {
            "autoAssign": True,
            "avoidBuggyIPs": False,
            "priority": 2,
            "namespaceSelector": {"matchLabels": {"t": "u"}},
            "serviceSelector": {"matchLabels": {"x": "y"}},
        },
    ),
}


@pytest.mark.parametrize(("more", "spec"), OFFERS.values(), ids=OFFERS)
def test_a_pool_of_metallb_is_a_vip_pool(more: str, spec: dict[str, object]) -> None:
    (made,) = migrate([pool(more=more)]).manifests
    assert made["spec"] == {"addresses": ["192.0.2.0/28"], **spec}
    assert problems_of(made) == []
    (version,) = yaml.safe_load(CRD.read_text())["spec"]["versions"]
    assert made["spec"].keys() <= version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"].keys()


def test_the_lowest_priority_of_metallb_is_the_highest_of_ours_and_none_the_lowest() -> None:
    given = {"a": "priority: 100", "b": "priority: 5", "c": "priority: 0", "d": ""}
    made = migrate([pool(name, more=f"serviceAllocation: {{{more}, namespaces: [x]}}".replace("{,", "{")) for name, more in given.items()])
    ranks = {each["metadata"]["name"]: each["spec"]["priority"] for each in made.manifests}
    assert ranks["b"] > ranks["a"] > ranks["c"] == ranks["d"] > migrate([pool()]).manifests[0]["spec"]["priority"]


def test_a_pool_of_several_selectors_is_left_out_and_advertisements_are_told() -> None:
    several = pool("odd", more="serviceAllocation: {namespaces: [a], namespaceSelectors: [{matchLabels: {t: u}}]}")
    found = migrate([several, field("{apiVersion: metallb.io/v1beta1, kind: L2Advertisement, metadata: {name: l2}}")])
    assert found.manifests == []
    assert [note.partition(":")[0] for note in found.notes] == ["L2Advertisement l2"]
    assert [note.partition(":")[0] for note in found.left_out] == ["IPAddressPool odd"]


@pytest.mark.parametrize("prefix", ["metallb.io/", "metallb.universe.tf/"])
def test_annotations_of_a_service_are_rewritten_and_what_the_server_wrote_is_left_out(prefix: str) -> None:
    annotations = {"address-pool": "cheap", "loadBalancerIPs": "192.0.2.3", "allow-shared-ip": "k", "ip-allocated-from-pool": "cheap"}
    text = f"""
apiVersion: v1
kind: Service
metadata:
  name: web
  resourceVersion: "7"
  annotations: {yaml.safe_dump({**{prefix + key: value for key, value in annotations.items()}, "a/b": "c"}, default_flow_style=True)}
spec: {{type: LoadBalancer, loadBalancerClass: metallb.io/metallb, ports: [{{port: 80}}]}}
status: {{loadBalancer: {{}}}}
"""
    found = migrate([field(text)])
    (made,) = found.manifests
    ours = {"weir.dev/pool": "cheap", "weir.dev/ips": "192.0.2.3", "weir.dev/share-key": "k"}
    assert made["metadata"] == {"name": "web", "annotations": {**ours, "a/b": "c"}}
    assert "status" not in made
    assert problems_of(made) == []
    assert found.notes == [
        "Service default/web: its loadBalancerClass cannot be changed; start the watcher with --class metallb.io/metallb"
    ]


def test_a_service_without_annotations_of_metallb_stays_as_it_is() -> None:
    assert migrate([field("{apiVersion: v1, kind: Service, metadata: {name: web}}")]).manifests == []
    with pytest.raises(MigrateError, match="neither an object of metallb"):
        migrate([field("{apiVersion: v1, kind: ConfigMap, metadata: {name: web}}")])


def test_an_address_pool_of_old_is_a_vip_pool() -> None:
    old = field(
        "{apiVersion: metallb.io/v1beta1, kind: AddressPool, metadata: {name: old}, "
        "spec: {protocol: bgp, addresses: [192.0.2.8-192.0.2.9], autoAssign: false, avoidBuggyIPs: true}}"
    )
    found = migrate([old])
    made, told = found.manifests
    assert made["spec"] == {"addresses": ["192.0.2.8-192.0.2.9"], "autoAssign": False, "avoidBuggyIPs": True, "priority": 0}
    assert (told["kind"], told["metadata"]["name"], told["spec"]) == ("BGPAdvertisement", "old", {"pools": ["old"]})
    assert found.left_out == []


METALLB_BGP = """
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: tor, namespace: metallb-system}
spec:
  {myASN: 64500, peerASN: 64501, peerAddress: 10.0.0.1, peerPort: 180, holdTime: 90s, keepaliveTime: 30s, bfdProfile: fast,
   ebgpMultiHop: true, nodeSelectors: [{matchLabels: {rack: a}}], passwordSecret: {name: tor}}
---
apiVersion: metallb.io/v1beta1
kind: BFDProfile
metadata: {name: fast, namespace: metallb-system}
spec: {receiveInterval: 100, transmitInterval: 150, detectMultiplier: 5}
---
apiVersion: metallb.io/v1beta1
kind: Community
metadata: {name: names, namespace: metallb-system}
spec: {communities: [{name: blue, value: "64500:7"}, {name: red, value: "large:64500:1:2"}]}
---
apiVersion: metallb.io/v1beta1
kind: BGPAdvertisement
metadata: {name: all, namespace: metallb-system}
spec: {ipAddressPools: [cheap], peers: [tor], aggregationLength: 28, localPref: 200, communities: [blue, red, "64500:9", no-export]}
"""


def test_bgp_of_metallb_is_ours() -> None:
    found = migrate([Field(each, "", {}) for each in yaml.safe_load_all(METALLB_BGP)])
    peer, told = found.manifests
    assert peer["spec"] == {
        "myASN": 64500,
        "peerASN": 64501,
        "peerAddress": "10.0.0.1",
        "peerPort": 180,
        "ebgpMultiHop": True,
        "holdTime": "90s",
        "keepaliveTime": "30s",
        "bfd": {"interval": 150, "multiplier": 5},
        "nodeSelectors": [{"matchLabels": {"rack": "a"}}],
        "passwordSecret": {"namespace": "metallb-system", "name": "tor"},
    }
    assert told["spec"] == {
        "peers": ["tor"],
        "aggregationLength": 28,
        "localPref": 200,
        "pools": ["cheap"],
        "communities": ["64500:7", "64500:1:2", "64500:9", "no-export"],
    }
    assert [*problems_of(peer), *problems_of(told), *found.left_out] == []


def test_what_weir_has_no_field_for_is_named() -> None:
    spec = "{myASN: 1, peerASN: 2, peerAddress: 10.0.0.1, password: hunter2, vrf: red, bfdProfile: none, enableGracefulRestart: false}"
    peer = field(f"{{apiVersion: metallb.io/v1beta2, kind: BGPPeer, metadata: {{name: tor}}, spec: {spec}}}")
    labels = "{ipAddressPoolSelectors: [{matchLabels: {a: b}}]}"
    told = field(f"{{apiVersion: metallb.io/v1beta1, kind: BGPAdvertisement, metadata: {{name: all}}, spec: {labels}}}")
    found = migrate([peer, told])
    assert [words.partition(": ")[2].partition(":")[0] for words in found.left_out] == [
        *("password", "vrf", "its bfdProfile none", "ipAddressPoolSelectors")
    ]
    assert not [words for words in found.left_out if "hunter2" in words]
    assert [each["kind"] for each in found.manifests] == ["BGPPeer"]


EVERYTHING = {
    "of Services": "serviceSelectors: [{}]",
    "beside another": "serviceSelectors: [{matchLabels: {x: y}}, {}]",
    "of empty parts": "serviceSelectors: [{matchLabels: {}, matchExpressions: []}]",
    "of namespaces": "namespaceSelectors: [{}]",
    "beside namespaces": "namespaces: [a], namespaceSelectors: [{}]",
}


@pytest.mark.parametrize("select", EVERYTHING.values(), ids=EVERYTHING)
def test_a_selector_of_everything_is_left_out(select: str) -> None:
    (made,) = migrate([pool(more=f"serviceAllocation: {{{select}}}")]).manifests
    assert made["spec"] == {"addresses": ["192.0.2.0/28"], "autoAssign": True, "avoidBuggyIPs": False, "priority": 1}


def test_an_empty_part_of_a_selector_is_left_out_and_a_misspelt_one_refused() -> None:
    (made,) = migrate([pool(more="serviceAllocation: {serviceSelectors: [{matchLabels: {x: y}, matchExpressions: []}]}")]).manifests
    assert made["spec"]["serviceSelector"] == {"matchLabels": {"x": "y"}}
    (made,) = migrate([pool(more="serviceAllocation: {serviceSelectors: [{matchLabel: {}}]}")]).manifests
    assert problems_of(made)


def test_services_that_share_by_one_key_across_namespaces_are_named() -> None:
    def sharing(name: str, namespace: str, prefix: str, key: str = "k") -> Field:
        metadata = f"{{name: {name}, namespace: {namespace}, annotations: {{{prefix}allow-shared-ip: {key}}}}}"
        return field(f"{{apiVersion: v1, kind: Service, metadata: {metadata}, spec: {{type: LoadBalancer, ports: [{{port: 80}}]}}}}")

    near = [sharing("a", "x", "metallb.io/"), sharing("b", "x", "metallb.universe.tf/"), sharing("c", "y", "metallb.io/", "other")]
    assert migrate(near).notes == []
    (note,) = migrate([*near, sharing("d", "y", "metallb.universe.tf/")]).notes
    assert note.startswith("Services x/a, x/b, y/d share by the key 'k' across namespaces")
    assert "`share: ports`" in note


# ── the command ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_printed_is_read_by_the_watcher_without_a_problem(tmp_path: Path) -> None:
    file = tmp_path / "pools.yaml"
    file.write_text(
        f"{POOL.replace('NAME', 'a').replace('RANGE', '192.0.2.0/28').replace(', MORE', '')}---\n"
        f"{POOL.replace('NAME', 'b').replace('RANGE', '2001:db8::/120').replace(', MORE', '')}"
    )
    ended = CliRunner().invoke(app, ["migrate", "metallb", str(file)])
    assert ended.exit_code == 0
    found = [reading for document in documents("m.yaml", ended.stdout.encode()) for reading in read(document, DEFAULT)]
    assert [(reading.problems, bool(reading.event)) for reading in found] == [((), True), ((), True)]


def test_what_is_left_out_is_in_the_exit_code_and_a_pipe_is_read() -> None:
    whole = POOL.replace("NAME", "a").replace("RANGE", "192.0.2.0/28").replace(", MORE", "")
    other = "{apiVersion: metallb.io/v1beta1, kind: ConfigurationState, metadata: {name: s}}"
    ended = CliRunner().invoke(app, ["migrate", "metallb", "-"], input=f"{whole}---\n{other}\n")
    assert (ended.exit_code, ended.stderr) == (1, "weir: left out: ConfigurationState s: Weir has no such object\n")
    assert yaml.safe_load(ended.stdout)["metadata"]["name"] == "a"
    assert CliRunner().invoke(app, ["migrate", "metallb", "-"], input=whole).exit_code == 0


BAD = {
    "of another kind": ("{apiVersion: v1, kind: Secret}", "neither a container of kube-loxilb"),
    "no YAML": ("a: [", "kube-loxilb.yaml: "),
    "no mapping": ("[1, 2]", "kube-loxilb.yaml: got a list of 2, accepted: a mapping"),
    "containers no list": ("{kind: Deployment, spec: {template: {spec: {containers: 3}}}}", "neither a container of kube-loxilb"),
    "args no text": (
        "{kind: Deployment, spec: {template: {spec: {containers: [{name: kube-loxilb, args: [3]}]}}}}",
        "spec.template.spec.containers[0].args[0]: got 3",
    ),
    "escapes": (
        '{kind: Deployment, spec: {template: {spec: {containers: [{name: kube-loxilb, args: ["--cidrPools=\\e[2J=10.0.0.0/24"]}]}}}}',
        "printable text",
    ),
}


@pytest.mark.parametrize(("text", "told"), BAD.values(), ids=BAD)
def test_what_cannot_be_migrated_is_told_in_one_line(text: str, told: str, tmp_path: Path) -> None:
    file = tmp_path / "kube-loxilb.yaml"
    file.write_text(text)
    ended = CliRunner().invoke(app, ["migrate", "kube-loxilb", str(file)])
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert told in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert "\x1b" not in ended.stderr

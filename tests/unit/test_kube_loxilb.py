"""docs/kube-loxilb.md row by row: what it says works does, what it says is flagged is told.  And what its README shows works unchanged."""

import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from test_watcher_core import asking, fact, only

from docs.reference import HERE
from services.ipam.core import Ipam
from services.watcher.kinds.fields import Field
from services.watcher.kinds.reader import read
from services.watcher.settings import DEFAULT, Settings
from services.watcher.sources.yaml_documents import documents
from weir.cli.migrate.kube_loxilb import migrate
from weir.cli.migrate.manifests import Migrated, MigrateError, problems_of
from weir.decider import Fact, Fold
from weir.events import AnyEvent, NodeAddressesObserved, ObjectObserved, PoolObserved, ServiceObserved, VipAllocated, VipDenied
from weir.model import ServicePort, shown

TESTDATA = Path(__file__).parent / "testdata"
PAGE = (HERE / "kube-loxilb.md").read_text()
OTHERWISE_TRIED = ("loadBalancerClass", "usepodnetwork", "useExternalEndpoint")  # they need other settings of the watcher


class Row(NamedTuple):
    name: str
    tried: tuple[str, ...]
    beside: dict[str, str]
    state: str


def rows(heading: str) -> list[Row]:
    """Those of a table of the page."""
    text = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    found = []
    for line in text.splitlines():
        name, *cells, _ = (cell.strip() for cell in line.strip("|").split(" | ")) if line.startswith("| ") else ("", "")
        if cells and cells[-1] != "state":
            words = re.findall("`([^`]*)`", cells[0]) if len(cells) > 1 else []
            beside = dict(word.split(": ") for word in words if ": " in word)
            found.append(Row(name.strip("`"), tuple(word for word in words if ": " not in word), beside, cells[-1]))
    return found


ANNOTATIONS, FLAGS, OTHERS = rows("Annotations of a Service"), rows("Flags"), rows("Other things")
TRIED = [(row, value) for row in ANNOTATIONS for value in row.tried]


def observed(row: Row, value: str | None, prefix: str) -> ServiceObserved:
    asked = {**row.beside, **({} if value is None else {row.name: value})}
    found = fact(asking(", ".join(f'"{prefix}{name}": "{word}"' for name, word in asked.items())))
    assert isinstance(found, ServiceObserved)
    return found


@pytest.mark.parametrize("prefix", ["loxilb.io/", "weir.dev/"])
@pytest.mark.parametrize(("row", "value"), TRIED, ids=[f"{row.name}={value}" for row, value in TRIED])
def test_an_annotation_is_in_the_state_that_the_page_says(row: Row, value: str, prefix: str) -> None:
    found = observed(row, value, prefix)
    assert found.exposed
    assert [problem.field for problem in found.unsupported] == (
        [f"metadata.annotations[{prefix}{row.name}]"] if row.state == "flagged" else []
    )


@pytest.mark.parametrize("name", sorted({row.name for row in ANNOTATIONS if row.state == "works"}))
def test_an_annotation_that_works_changes_what_is_served(name: str) -> None:
    def served(found: ServiceObserved) -> dict[str, object]:
        return {field: getattr(found, field) for field in found.__struct_fields__ if field not in ("annotations", "unsupported")}

    for row in ANNOTATIONS:
        if row.name == name and row.state == "works" and name not in OTHERWISE_TRIED:
            without = served(observed(row, None, "loxilb.io/"))
            assert any(served(observed(row, value, "loxilb.io/")) != without for value in row.tried)


def test_every_known_key_stands_in_the_tables() -> None:
    assert {row.state for row in (*ANNOTATIONS, *FLAGS, *OTHERS)} == {"works", "flagged", "missing"}
    assert (len(TRIED), len(FLAGS), len(OTHERS)) > (60, 25, 10)


def test_the_class_may_stand_in_an_annotation() -> None:
    by_default, asked = Settings(default_class=False), asking("loxilb.io/loadBalancerClass: loxilb.io/loxilb")
    for text, settings, ours in (
        (asked, by_default, True),
        (asking(""), by_default, False),
        (asking("loxilb.io/loadBalancerClass: metallb.io/metallb"), DEFAULT, False),
        (asked.replace("ports:", "loadBalancerClass: a/b, ports:"), DEFAULT, False),
    ):
        ((reading,),) = (read(document, settings) for document in documents("a.yaml", text.encode()))
        assert isinstance(reading.event, ServiceObserved)
        assert reading.event.exposed is ours


def test_pods_serve_where_the_annotation_says_so_and_nodes_are_the_rule() -> None:
    for word, targets in (("yes", "endpoints"), ("no", "nodes")):
        text = asking(f'loxilb.io/usepodnetwork: "{word}"').encode()
        ((reading,),) = (read(document, Settings(targets="nodes")) for document in documents("a.yaml", text))
        assert isinstance(reading.event, ServiceObserved)
        assert reading.event.targets == targets


# ── flags ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def deployment(*args: str) -> Field:
    container = {"name": "kube-loxilb", "image": "ghcr.io/loxilb-io/kube-loxilb:latest", "args": list(args)}
    return Field({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"template": {"spec": {"containers": [container]}}}}, "", {})


def config(text: str) -> Field:
    return Field(yaml.safe_load(text), "", {})


POOL = "--cidrPools=defaultPool=10.9.0.0/24"
GIVEN = [(row, value) for row in FLAGS for value in row.tried]


@pytest.mark.parametrize(("row", "value"), GIVEN, ids=[f"{row.name}={value}" for row, value in GIVEN])
def test_a_flag_is_in_the_state_that_the_page_says(row: Row, value: str) -> None:
    migrated = migrate([config("zone: llb"), deployment(POOL, f"--{row.name}={value}")])
    assert [note.partition("=")[0] for note in migrated.left_out] == ([f"--{row.name}"] if row.state == "flagged" else [])
    assert [problem for manifest in migrated.manifests for problem in problems_of(manifest)] == []


OPTIONS = {
    "none": ((), "--no-default-class --mode default --targets nodes --status-hostname llb"),
    "all": (
        ("--setLBMode=2", "--monitor", "--usePodNetwork", "--zone", "eu", "--loxilbLoadBalancerClass=a/b"),
        "--no-default-class --class a/b --mode fullnat --targets endpoints --liveness --status-hostname eu",
    ),
    "off": (("--monitor=false", "--setUniqueIP=true", "--noZoneName"), "--no-default-class --mode default --targets nodes"),
}


@pytest.mark.parametrize(("args", "options"), OPTIONS.values(), ids=OPTIONS)
def test_flags_become_options_of_the_watcher(args: tuple[str, ...], options: str) -> None:
    assert " ".join(migrate([deployment(POOL, *args)]).options) == options


RANGES = {
    "host bits": ("123.123.123.1/24", "123.123.123.1-123.123.123.254"),
    "host bits within": ("10.0.0.20/28", "10.0.0.20-10.0.0.30"),
    "none": ("10.0.0.0/24", "10.0.0.1-10.0.0.254"),
    "none, no octet": ("10.0.0.16/28", "10.0.0.16/28"),
    "one address": ("192.168.57.100/32", "192.168.57.100/32"),
    "last of two": ("10.0.0.1/31", "10.0.0.1-10.0.0.1"),
    "first to last": ("10.0.0.7-10.0.0.9", "10.0.0.7-10.0.0.9"),
}


@pytest.mark.parametrize(("written", "given"), RANGES.values(), ids=RANGES)
def test_a_pool_offers_what_kube_loxilb_gives(written: str, given: str) -> None:
    (pool,) = migrate([deployment(f"--cidrPools=defaultPool={written}")]).manifests
    assert pool["spec"] == {"addresses": [given], "autoAssign": True, "share": "ports"}


def test_pools_of_both_families_are_one_and_others_are_asked_for_by_name() -> None:
    migrated = migrate([deployment("--cidrPools=defaultPool=10.0.0.0/24,pool2=10.0.1.0/24", "--cidr6Pools", "defaultPool=fd00::/96")])
    first, second = migrated.manifests
    assert (first["metadata"]["name"], first["spec"]["addresses"]) == ("defaultpool", ["10.0.0.1-10.0.0.254", "fd00::1-fd00::ffff:fffe"])
    assert (second["metadata"]["name"], second["spec"]["autoAssign"]) == ("pool2", False)


def test_the_file_of_config_counts_behind_flags_and_the_external_cidr_before_pools() -> None:
    file = config("{setExclIPAM: true, setLBMode: 2, cidrPools: 'a=10.0.0.0/24', externalCIDR: 192.168.57.100/32}")
    migrated = migrate([file, deployment("--config=/etc/kube-loxilb.yaml", "--setLBMode=1")])
    (pool,) = migrated.manifests
    assert (pool["metadata"]["name"], pool["spec"]["share"], migrated.notes) == ("defaultpool", "key", [])
    assert "--mode onearm" in " ".join(migrated.options)


@pytest.mark.parametrize("pools", ["defaultPool", "defaultPool=", "defaultPool=10.0.0.0/33", "=10.0.0.0/24", "my_pool=10.0.0.0/24"])
def test_a_pool_that_cannot_be_understood_is_told(pools: str) -> None:
    with pytest.raises(MigrateError, match=r"(?i)pool"):
        told(migrate([deployment(f"--cidrPools={pools}")]))


def told(migrated: Migrated) -> None:
    if problems := [problem for manifest in migrated.manifests for problem in problems_of(manifest)]:
        raise MigrateError("; ".join(problems))


def test_its_bgp_is_a_peer_for_each_router_and_all_vips_are_told() -> None:
    spec = {"ipAddress": "2001:db8::1", "remoteAs": 65200, "remotePort": 1790}
    more = Field({"apiVersion": "bgppeer.loxilb.io/v1", "kind": "BGPPeerService", "metadata": {"name": "six"}, "spec": spec}, "", {})
    flags = ("--setBGP=65100", "--extBGPPeers=50.50.50.1:65101,51.50.50.1:65102", "--eBGPMultiHop")
    found = migrate([deployment(POOL, *flags), more])
    _, *peers, told_ = found.manifests
    assert [each["spec"] for each in peers] == [
        {"myASN": 65100, "peerASN": 65101, "peerAddress": "50.50.50.1", "ebgpMultiHop": True},
        {"myASN": 65100, "peerASN": 65102, "peerAddress": "51.50.50.1", "ebgpMultiHop": True},
        {"myASN": 65100, "peerASN": 65200, "peerAddress": "2001:db8::1", "peerPort": 1790, "ebgpMultiHop": True},
    ]
    assert (told_["kind"], told_["spec"], found.left_out) == ("BGPAdvertisement", {}, [])
    told(found)
    assert migrate([deployment(POOL), more]).left_out == ["BGPPeerService six: give kube-loxilb's --setBGP, the AS of the nodes, with it"]
    for wrong in ("--extBGPPeers=65101", "--extBGPPeers=50.50.50.1:x"):
        with pytest.raises(MigrateError, match="extBGPPeers: got"):
            migrate([deployment(POOL, "--setBGP=65100", wrong)])


def test_what_is_not_given_or_not_known_is_told() -> None:
    found = migrate([deployment("--config=x.yaml", "--setLBmode=1", "--setBGP=0")])
    assert [note.partition(":")[0] for note in found.left_out] == ["--setLBmode=1", "--config=x.yaml"]
    assert [note.partition(":")[0] for note in found.notes] == ["no pool"]
    with pytest.raises(MigrateError, match="neither a container of kube-loxilb"):
        migrate([Field({"apiVersion": "v1", "kind": "Service"}, "", {})])


# ── what its documents show ────────────────────────────────────────────────────────────────────────────────────────

README = list(documents("readme.yaml", (TESTDATA / "kube-loxilb-readme.yaml").read_bytes()))


@pytest.mark.parametrize("number", range(len(README)))
def test_a_service_of_the_readme_is_taken_as_it_is(number: int) -> None:
    (reading,) = read(README[number], Settings(default_class=False))
    assert isinstance(reading.event, ServiceObserved)
    assert (reading.problems, reading.event.exposed) == ((), True)
    asked = yaml.safe_dump(README[number].content)
    flagged = {problem.field.rpartition("/")[2].strip("]") for problem in reading.event.unsupported}
    assert flagged <= {"spec.ports[0].protocol", "multus-nets"}, "only what the page says is flagged"
    assert ("SCTP" in asked) is ("spec.ports[0].protocol" in flagged)


class Given(NamedTuple):
    vips: dict[str, tuple[str, ...]]
    denied: dict[str, str]


def given(*facts: ObjectObserved | AnyEvent | None) -> Given:
    """Who gets what of ipam."""
    fold, seq = Fold(Ipam(), "ipam"), 0
    for said in (NodeAddressesObserved(node="lb-1"), *facts):
        assert said
        seq += 1
        decided, _ = fold.hear([Fact(seq, said)])
        fold.acked(decided, seq + 1)
        for item in decided:
            seq += 1
            fold.hear([Fact(seq, item.event)])
    world = fold.world
    return Given(
        {vip.vip: tuple(map(shown, vip.holders)) for vip in world.of(VipAllocated)},
        {shown(claim.owner): claim.reason for claim in world.of(VipDenied)},
    )


def pools(*args: str) -> list[ObjectObserved | None]:
    """Of a kube-loxilb that was started so."""
    migrated = migrate([deployment(*args)])
    return [reading.event for manifest in migrated.manifests for reading in read_manifest(manifest)]


def read_manifest(manifest: dict[str, object]) -> list[object]:
    return [reading for document in documents("m.yaml", yaml.safe_dump(manifest).encode()) for reading in read(document, DEFAULT)]


def web(name: str, port: int, annotations: str = "") -> ServiceObserved:
    found = fact(asking(annotations).replace("name: web", f"name: {name}").replace("{port: 80}", f"{{port: {port}}}"))
    assert isinstance(found, ServiceObserved)
    return found


def test_three_gateways_of_another_controller_share_the_one_address_of_the_pool() -> None:
    """Ports 80, 443 and 8080, mode, probing and class as the Gateways' annotations have them, and no key."""
    annotations = 'loxilb.io/liveness: "yes", loxilb.io/lbmode: "onearm", loxilb.io/loadBalancerClass: "loxilb.io/loxilb"'
    ports = {"my-gateway": 80, "tls-gateway": 443, "my-example-gateway": 8080}
    services = [web(name, port, annotations) for name, port in ports.items()]
    (pool,) = pools("--externalCIDR=192.168.57.100/32", "--setLBMode=2")
    assert given(pool, *services) == ({"192.168.57.100": tuple(f"shop/{name}" for name in ports)}, {})
    assert {service.mode for service in services} == {"onearm"}
    assert given(pool, *services, web("more", 443)).denied == {"shop/more": "PoolExhausted"}


def test_with_unique_addresses_they_do_not() -> None:
    found = given(*pools("--externalCIDR=192.168.57.100/32", "--setUniqueIP=true"), web("a", 80), web("b", 443))
    assert found == ({"192.168.57.100": ("shop/a",)}, {"shop/b": "PoolExhausted"})


def test_a_pool_with_host_bits_gives_the_address_written_first() -> None:
    assert given(*pools("--cidrPools=defaultPool=123.123.123.1/24"), web("a", 80)).vips == {"123.123.123.1": ("shop/a",)}


def test_an_address_outside_every_pool_is_given_only_where_an_operator_granted_it() -> None:
    asked, (lan,) = web("a", 80, 'loxilb.io/staticIP: "192.168.255.254"'), pools(POOL)
    assert given(lan, asked).denied == {"shop/a": "AddressOutsidePools"}
    root = asked.root.__class__(kind="VIPPool", name="granted")
    granted = PoolObserved(root=root, addresses=("192.168.255.0/24",), auto_assign=False)
    assert given(lan, granted, asked, web("b", 80)).vips == {"192.168.255.254": ("shop/a",), "10.9.0.1": ("shop/b",)}


def test_an_sctp_service_has_its_address_and_no_frontend() -> None:
    sctp = only(asking("loxilb.io/lbmode: fullnat").replace("port: 80", "port: 56004, protocol: SCTP")).event
    assert isinstance(sctp, ServiceObserved)
    assert (sctp.ports, list(given(*pools(POOL), sctp).vips)) == ((), ["10.9.0.1"])
    assert ServicePort(port=80) == web("a", 80).ports[0]


# ── the count ──────────────────────────────────────────────────────────────────────────────────────────────────────


def counted(found: list[Row]) -> Counter[str]:
    states = defaultdict(set)
    for row in found:
        states[row.name].add(row.state)
    return Counter(next(iter(states[name])) if len(states[name]) == 1 else "in part" for name in states)


def test_the_page_counts_its_rows() -> None:
    words = []
    for found, what in ((ANNOTATIONS, "annotations"), (FLAGS, "flags"), (OTHERS, "other things")):
        count = counted(found)
        words.append(
            f"Of {count.total()} {what} {count['works']} work, {count['in part']} in part, "
            f"{count['flagged']} are flagged, {count['missing']} are missing."
        )
    print(" ".join(words))
    assert " ".join(words) in " ".join(PAGE.split())

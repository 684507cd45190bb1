"""Bad manifests dropped beside good ones, into a Weir that serves: each is told with its place, and its neighbours notice nothing."""

import json
import os
import queue
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.running import Running, running_weir
from weir.demo.network import wait_until

BAD = "bad.yaml"
ESC = "\x1b"


class Log:
    """The log as it grows, from `weir log tail -f`."""

    def __init__(self, weir: Running) -> None:
        argv = weir.command("log", "tail", "-n", "100000", "-f", "-o", "json")
        self._tail = weir.network.popen("lb", *argv, cwd=Path.cwd(), stdout=-1)
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.until("node_seen")

    def _read(self) -> None:
        assert self._tail.stdout
        for line in self._tail.stdout:
            assert ESC not in line
            self._lines.put(line)

    def until(self, *types: str, seconds: float = 60, **fields: Any) -> dict[str, Any]:
        """The next fact of one of `types` with these fields."""
        passed = []
        while True:
            try:
                fact = json.loads(self._lines.get(timeout=seconds))["event"]
            except queue.Empty:
                pytest.fail(f"no {' or '.join(types)} {fields or ''}within {seconds} s; but {passed}")
            if fact["type"] in types and fields.items() <= fact.items():
                return dict(fact)
            passed.append(fact["type"])

    def close(self) -> None:
        self._tail.terminate()
        self._tail.communicate()


class Site(Running):
    """The running Weir, its folder of manifests and its log."""

    def __init__(self, weir: Running) -> None:
        super().__init__(weir.stage)
        self.folder = self.stage.folder / "shop"
        self.mend()
        self.good = self.files()
        self.before = self.maps()
        self.log = Log(self)

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() if path.is_file() else b"" for path in self.folder.iterdir()}

    def weir(self, *words: str) -> str:
        """What a command prints; nothing of it can steer a terminal."""
        done = self.network.run("lb", *self.command(*words), check=False, cwd=Path.cwd())
        assert all(line.isprintable() for line in (done.stdout + done.stderr).split("\n")), done
        assert "Traceback" not in done.stderr
        return done.stdout

    def drop(self, content: str, name: str = BAD) -> Path:
        file = self.folder / name
        file.write_text(content)
        return file

    def mend(self) -> None:
        """The bad file says nothing any more."""
        self.drop("# nothing\n")

    def problems(self) -> list[str]:
        """What `weir status` lists at its end."""
        return [line.removeprefix("✗ ") for line in self.weir("status").splitlines() if line.startswith("✗ ")]

    def undisturbed(self) -> bool:
        """Whether the kernel holds for the neighbours what it held before."""
        after = self.maps()
        return all(before.items() <= after[name].items() for name, before in self.before.items())


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with running_weir("weirbad") as found:
        site = Site(found)
        try:
            yield site
        finally:
            site.log.close()


@pytest.fixture(autouse=True)
def _mended(site: Site) -> Iterator[None]:
    """A test that failed leaves nothing to the next."""
    yield
    if not site.folder.exists() or site.files() != site.good:
        shutil.rmtree(site.folder, ignore_errors=True)
        site.folder.mkdir()
        for name, content in site.good.items():
            (site.folder / name).write_bytes(content)
        site.settled(60)
        site.before = site.maps()


# ── manifests ──────────────────────────────────────────────────────────────────────────────────────────────────────


def text(*manifests: dict[str, Any]) -> str:
    return "".join(f"---\n{json.dumps(manifest)}\n" for manifest in manifests)


def service(name: str = "bad", **spec: Any) -> dict[str, Any]:
    more = {key: spec.pop(key) for key in ("labels", "annotations") if key in spec}
    spec = {"type": "LoadBalancer", "ports": [{"port": 80}], **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "shop", "name": name, **more}, "spec": spec}


def slice_of(*addresses: str, family: str = "IPv4", service: str = "web") -> dict[str, Any]:
    metadata = {"namespace": "shop", "name": "bad", "labels": {"kubernetes.io/service-name": service}}
    endpoints = [{"addresses": [address]} for address in addresses]
    head = {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata, "addressType": family}
    return {**head, "ports": [{"name": "http", "port": 8080}], "endpoints": endpoints}


def pool(*addresses: str, name: str = "bad") -> dict[str, Any]:
    return {"apiVersion": "weir.dev/v1alpha1", "kind": "VIPPool", "metadata": {"name": name}, "spec": {"addresses": addresses}}


LONG = ".".join(["a" * 62] * 4)  # 251 characters
HUGE = {**service(), "metadata": {"namespace": "shop", "name": "bad", "annotations": {"note": "x" * 1_500_000}}}

# what is in the file -> what `weir status` says of it, whole lines after "shop/bad.yaml"
REFUSED: dict[str, tuple[str, Sequence[str]]] = {
    "malformed YAML": (
        "apiVersion: v1\nkind: [Service\nmetadata: {\n",
        ["#1: line 3, column 9: got malformed text, accepted: well-formed text (did not find expected ',' or ']')"],
    ),
    "no manifest": (
        "just words\n",
        ["#1: document: got text, accepted: a mapping with apiVersion, kind and metadata"],
    ),
    "wrong types": (
        text(service(ports="eighty"), service("worse", ports=[{"port": "80", "protocol": 6, "name": ["http"]}])),
        [
            "#1: spec.ports: got 'eighty', accepted: a list",
            "#2: spec.ports[0].port: got '80', accepted: 1-65535",
            "#2: spec.ports[0].protocol: got 6, accepted: TCP, UDP",
            "#2: spec.ports[0].name: got a list of 1, accepted: text (in YAML, quotes make it text)",
        ],
    ),
    "port 0": (text(service(ports=[{"port": 0}])), ["#1: spec.ports[0].port: got 0, accepted: 1-65535"]),
    "port 65536": (text(service(ports=[{"port": 65536}])), ["#1: spec.ports[0].port: got 65536, accepted: 1-65535"]),
    "duplicate ports": (
        text(service(ports=[{"name": "a", "port": 80}, {"name": "b", "port": 80}])),
        ["#1: spec.ports[1].port: got 80/TCP, accepted: each port and protocol once; spec.ports[0] has it"],
    ),
    "empty pool": (text(pool()), ["#1: spec.addresses: got a list of 0, accepted: at least one CIDR or first-last"]),
    "overlapping pools": (
        text(pool("203.0.113.20/31")),
        ["#1: spec.addresses: got 203.0.113.20/31, accepted: each address in one pool; pool public has 203.0.113.10-203.0.113.29"],
    ),
    "pool of loopback addresses": (
        text(pool("127.0.0.0/30")),
        ["#1: spec.addresses[0]: got '127.0.0.0/30', accepted: unicast addresses only (this holds loopback, 127.0.0.0/8)"],
    ),
    "address of another family": (
        text(service(ipFamilies=["IPv6"], loadBalancerIP="203.0.113.28")),
        ["#1: spec.loadBalancerIP: got '203.0.113.28', accepted: an address of IPv6, as ipFamilies says"],
    ),
    "endpoint of another family": (
        text(slice_of("fd77::99")),
        ["#1: endpoints[0].addresses[0]: got 'fd77::99', accepted: an IPv4 address, as addressType says"],
    ),
    "endpoints that must not be reached": (
        text(slice_of("127.0.0.1", "169.254.1.1", "169.254.169.254", "100.100.100.200")),
        [
            "#1: endpoints[0].addresses[0]: got '127.0.0.1', accepted: a unicast address (this is loopback, 127.0.0.0/8)",
            "#1: endpoints[1].addresses[0]: got '169.254.1.1', accepted: a unicast address (this is link-local, 169.254.0.0/16)",
            "#1: endpoints[2].addresses[0]: got '169.254.169.254', accepted: a unicast address (this is link-local, 169.254.0.0/16)",
            "#1: endpoints[3].addresses[0]: got '100.100.100.200', accepted: an endpoint's own address "
            "(this is a cloud's metadata service)",
        ],
    ),
    "IPv6 endpoints that must not be reached": (
        text(slice_of("::1", "fe80::1", "fd00:ec2::254", family="IPv6")),
        [
            "#1: endpoints[0].addresses[0]: got '::1', accepted: a unicast address (this is loopback, ::1)",
            "#1: endpoints[1].addresses[0]: got 'fe80::1', accepted: a unicast address (this is link-local, fe80::/10)",
            "#1: endpoints[2].addresses[0]: got 'fd00:ec2::254', accepted: an endpoint's own address (this is a cloud's metadata service)",
        ],
    ),
    "name of 254 characters": (
        text(service(LONG + ".aa")),
        [
            f"#1: metadata.name: got '{LONG[:80]}' and 174 characters more, accepted: a DNS subdomain: at most 253 of a-z, 0-9, "
            "- and ., each part beginning and ending with a letter or digit"
        ],
    ),
    "document of 1.5 MB": (
        text(service("fine") | {"spec": {"type": "ClusterIP"}}, HUGE),
        [f"#2: document: got {len(text(HUGE))} bytes, accepted: at most 1048576 bytes"],
    ),
    "second Service of one name": (
        text(service("web", ports=[{"port": 81}])),
        ["#1: metadata.name: got shop/web, accepted: each Service once; shop/service.yaml#1 has it"],
    ),
    "steering of the terminal": (
        text(service("\x1b[2Jx", labels={"\x1b]0;owned\x07": "a"}, annotations={"weir.dev/lbmode": "\x9b31m\u202e"})),
        [
            "#1: metadata.name: got '\\x1b[2Jx', accepted: printable text",
            "#1: metadata.labels: got another key, accepted: keys of printable text (in YAML, quotes make them text)",
            "#1: metadata.annotations[weir.dev/lbmode]: got '\\x9b31m\\u202e', accepted: printable text",
        ],
    ),
    "HTML": (
        text(service(labels={"note": "<script>alert(1)</script>"}, annotations={"weir.dev/lbmode": "<img src=x onerror=alert(1)>"})),
        [
            "#1: metadata.annotations[weir.dev/lbmode]: got '<img src=x onerror=alert(1)>', "
            "accepted: default, onearm, fullnat, dsr, fullproxy, hostonearm"
        ],
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_bad_document_is_told_with_its_place_until_it_is_mended(site: Site, what: str) -> None:
    content, lines = REFUSED[what]
    said = [f"shop/bad.yaml{line}" for line in lines]
    sources = sorted({line.partition(": ")[0] for line in said})
    site.drop(content)
    for source in sources:
        site.log.until("manifest_rejected", source=source)
    assert site.problems() == said, "and nothing of the case before"
    assert site.maps() == site.before
    site.mend()
    for source in sources:
        site.log.until("manifest_accepted", source=source)
    assert site.maps() == site.before


OFFERED = "203.0.113.10-203.0.113.29, 2001:db8:113::10-2001:db8:113::29"
DENIED = {
    "198.51.100.1": f"AddressOutsidePools: 198.51.100.1 is in no pool; pools offer {OFFERED}",
    "203.0.113.10": "AddressHeld: 203.0.113.10 is held by shop/web",
}


def test_address_that_cannot_be_given_is_denied_with_the_reason(site: Site) -> None:
    names = {f"bad{number}": address for number, address in enumerate(DENIED)}
    lines = [f"! service    shop/{name} no VIP: not Allocated ({DENIED[address]})" for name, address in names.items()]
    site.drop(text(*(service(name, loadBalancerIP=address) for name, address in names.items())))
    for name in names:
        site.log.until("vip_denied", owner=f"Service/shop/{name}")

    def told() -> bool:
        status = site.weir("status")
        return all(line in status for line in lines)

    assert wait_until(told, 30)
    assert DENIED["203.0.113.10"] in site.weir("log", "why", "shop/bad1")
    assert site.maps() == site.before
    site.mend()
    for name in names:
        site.log.until("claim_settled", owner=f"Service/shop/{name}")
    assert wait_until(lambda: "shop/bad" not in site.weir("status"), 30)
    assert site.maps() == site.before


def test_service_edited_into_nonsense_serves_on_and_says_so(site: Site) -> None:
    file = site.folder / "service.yaml"
    good = file.read_text()
    file.write_text(good.replace("port: 80,", "port: 0,"))
    site.log.until("status_planned", owner="Service/shop/web")
    told = site.weir("status")
    problem = "shop/service.yaml#1: spec.ports[0].port: got 0, accepted: 1-65535"
    assert f"✗ {problem}\n" in told
    assert f"not Accepted (Invalid: what was valid before still serves; {problem})" in told
    assert site.maps() == site.before
    file.write_text(good)
    site.log.until("manifest_accepted", source="shop/service.yaml#1")
    assert site.problems() == []
    assert site.maps() == site.before


def test_good_document_beside_a_bad_one_serves_and_so_does_a_name_of_253_characters(site: Site) -> None:
    name = LONG + ".a"
    site.drop("kind: [\n" + text(service(name)))
    vip = site.log.until("vip_allocated", holders=[f"Service/shop/{name}"])["vip"]
    assert wait_until(lambda: vip in site.vips(), 30)
    assert len(site.problems()) == 1
    assert f"shop/{name} exposed" in site.weir("log", "why", f"shop/{name}")
    assert site.undisturbed()
    site.mend()
    site.log.until("vip_freed", vip=vip)
    assert wait_until(lambda: site.maps()["frontends"] == site.before["frontends"], 30)


# ── files and folders ──────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def directory(path: Path) -> Iterator[None]:
    path.mkdir()
    yield
    path.rmdir()


@contextmanager
def dangling_link(path: Path) -> Iterator[None]:
    path.symlink_to("nowhere")
    yield
    path.unlink()


@contextmanager
def binary(path: Path) -> Iterator[None]:
    path.write_bytes(b"kind: \xff\xfe")
    yield
    path.unlink()


UNREADABLE = {
    directory: "shop/x.yaml: file: got Not a regular file, accepted: a readable file; what was last read is kept",
    dangling_link: "shop/x.yaml: file: got No such file or directory, accepted: a readable file; what was last read is kept",
    binary: "shop/x.yaml: file: got byte 0xff at 6, accepted: UTF-8 text",
}


@pytest.mark.parametrize("how", UNREADABLE)
def test_file_that_cannot_be_read_is_told_until_it_is_gone(site: Site, how: Any) -> None:
    with how(site.folder / "x.yaml"):
        site.log.until("manifest_rejected", source="shop/x.yaml")
        assert site.problems() == [UNREADABLE[how]]
        assert site.maps() == site.before
    site.log.until("manifest_accepted", source="shop/x.yaml")
    assert site.maps() == site.before


def test_folder_that_vanishes_changes_nothing_and_is_followed_again_when_it_returns(site: Site) -> None:
    away = site.folder.with_name("away")
    site.folder.rename(away)
    site.log.until("manifest_rejected", source="shop")
    assert site.problems() == ["shop: folder: got No such file or directory, accepted: a folder with manifests; what was last read is kept"]
    assert site.maps() == site.before
    shutil.copytree(away, site.folder)
    shutil.rmtree(away)
    site.log.until("manifest_accepted", source="shop")
    site.drop("kind: [")
    site.log.until("manifest_rejected", source="shop/bad.yaml#1")
    site.mend()
    site.log.until("manifest_accepted", source="shop/bad.yaml#1")
    assert site.problems() == []
    assert site.maps() == site.before


def test_half_written_file_is_read_when_it_is_closed(site: Site) -> None:
    whole = text(service("slow"))
    with (site.folder / BAD).open("w") as file:
        file.write(whole[: len(whole) // 2])
        file.flush()
        site.drop("kind: [", "fence.yaml")  # told after all that went before it
        site.log.until("manifest_rejected", source="shop/fence.yaml#1")
        assert [line for line in site.problems() if BAD in line] == []
    site.log.until("manifest_rejected", source="shop/bad.yaml#1")
    assert len([line for line in site.problems() if line.startswith("shop/bad.yaml#1: line ")]) == 1
    assert site.maps() == site.before
    site.drop(whole)
    vip = site.log.until("vip_allocated", holders=["Service/shop/slow"])["vip"]
    site.mend()
    (site.folder / "fence.yaml").unlink()
    site.log.until("vip_freed", vip=vip)
    assert site.undisturbed()


# ── what is shown ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_nothing_from_outside_reaches_a_terminal_raw(site: Site) -> None:
    html = "<b onclick=alert(1)>"
    names = (f"{ESC}[2J{ESC}[31mred.yaml", "new\nline.yaml", "\u202eright.yaml")
    site.drop(text(service("shown", labels={"note": html, "漢": "é"}, annotations={"weir.dev/epselect": "rr", "other.dev/x": f"{ESC}[1m"})))
    vip = site.log.until("vip_allocated", holders=["Service/shop/shown"])["vip"]
    for name in names:
        site.drop(f'kind: "\\e[5m{ESC}[0m"\n', name)
        site.log.until("manifest_rejected")
    try:
        for words in ("get lb", "log stat", "log tail -n 50", f"log why {vip}"):
            site.weir(*words.split())
        assert yaml.safe_load(site.weir("status", "-o", "yaml"))
        for line in site.weir("log", "tail", "-n", "50", "-o", "jsonl").splitlines():
            assert json.loads(line)
        told = site.problems()
        assert any("\\x1b[2J" in line for line in told)
        assert len(told) >= len(names)
        observed = json.loads(site.weir("log", "why", "shop/shown", "-o", "json"))[0]
        assert observed["event"]["labels"] == {"note": html, "漢": "é"}
    finally:
        site.mend()
        for name in names:
            (site.folder / name).unlink()
    site.log.until("vip_freed", vip=vip)
    assert site.undisturbed()


def test_one_bad_service_among_300_takes_nobody_with_it(site: Site) -> None:
    many = [service(f"many-{number}", ports=[{"port": 0 if number == 150 else 8000}]) for number in range(300)]
    site.drop(text(pool("198.18.0.0/23", name="many"), *many))
    site.log.until("manifest_rejected", source="shop/bad.yaml#152")
    assert wait_until(lambda: len(site.maps()["frontends"]) == len(site.before["frontends"]) + 299, 30)
    assert site.problems() == ["shop/bad.yaml#152: spec.ports[0].port: got 0, accepted: 1-65535"]
    assert len(site.stage.ask("get lb")) == len(site.before["frontends"]) + 299
    assert site.undisturbed()
    site.mend()
    assert wait_until(lambda: site.maps()["frontends"] == site.before["frontends"], 30)


def test_afterwards_all_is_well(site: Site) -> None:
    site.settled(60)
    assert sorted(os.listdir(site.folder)) == [BAD, "endpoints.yaml", "pool.yaml", "service.yaml"]
    assert {name: site.maps()[name] for name in ("frontends", "vips")} == {name: site.before[name] for name in ("frontends", "vips")}

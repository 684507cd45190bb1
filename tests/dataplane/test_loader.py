"""The loader: safe to repeat, and plain about what is missing."""

import ctypes
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from services.dataplane.edge import Agent
from services.dataplane.l4.layout import ID, LAYOUT, Frontend, FrontendKey, Interface, map_specs, memory_bytes
from services.dataplane.load import links
from services.dataplane.load.interface_settings import Settings
from services.dataplane.load.interfaces import Nic, NicError
from services.dataplane.load.links import open_pin
from services.dataplane.load.loader import LoaderError, Options, detach, follow, load, main
from services.dataplane.load.preflight import preflight
from services.dataplane.load.programs import HOOKS, load_programs
from tests.dataplane.conftest import needs_kernel
from tests.dataplane.lab import compiled, inside, sh
from weir.decider import World
from weir.events import AppliedThrough
from weir.pins import Map, libbpf
from weir.where import Where

pytestmark = needs_kernel
SMALL = map_specs(1024, 64, 256, 1024)


@pytest.fixture
def options() -> Iterator[Options]:
    space = f"wb-load-{os.getpid()}"
    pins = Path(f"/sys/fs/bpf/weir-test-{os.getpid()}-load")
    sh(f"""set -e; ip netns add {space}; ip -n {space} link add eth0 type veth peer name eth1
        ip -n {space} link set eth0 up; ip -n {space} link add link eth0 name eth0.5 type vlan id 5 || true
        ip -n {space} address add 192.0.2.7/24 dev eth0""")
    try:
        with inside(space):
            yield Options(("eth0",), pins, "tc", None, SMALL)
    finally:
        list(detach(pins))
        sh(f"ip netns delete {space}")


def test_second_run_replaces_the_program_and_leaves_the_maps_alone(options: Options) -> None:
    assert "eth0: tc program attached" in list(load(options))
    key, frontend = FrontendKey("198.51.100.1", 80, "TCP").pack(), Frontend(1, 2, 3).pack()
    Map.open(options.directory / "frontends").put(key, frontend)
    assert list(load(options)) == ["eth0: tc program replaced"]
    assert Map.open(options.directory / "frontends").get(key) == frontend


def test_interface_is_prepared_and_known(options: Options) -> None:
    lines = list(load(options))
    assert "eth0: allmulti set" in lines
    assert "eth0: ipv4 forwarding set" in lines
    assert "ALLMULTI" in sh("ip link show eth0")
    (value,) = [value for _, value in Map.open(options.directory / "interfaces").items()]
    assert Interface.unpack(value).v4 == "192.0.2.7"
    assert Interface.unpack(value).mac.hex(":") in sh("ip link show eth0")


def test_owner_may_open_maps_but_not_programs(options: Options) -> None:
    list(load(replace(options, owner=65534)))
    for pin in options.directory.iterdir():
        status = pin.stat()
        mine = pin.name.startswith(("prog_", "link_", "egress_"))
        assert (status.st_uid, status.st_mode & 0o777) == (0 if mine else 65534, 0o600), pin.name


def test_hook_may_change(options: Options) -> None:
    list(load(options))
    assert any("xdp program attached" in line for line in load(replace(options, hook="xdp")))
    assert "xdp" in sh("ip link show eth0")
    assert "eth0: tc program attached" in list(load(options))
    assert "xdp" not in sh("ip link show eth0")


def test_auto_stays_with_xdp_where_our_own_program_is_why_another_finds_no_place(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.dataplane.load.loader._BETTER_ON_TC", frozenset())
    asked = replace(options, hook="auto")
    assert "eth0: xdp program attached" in list(load(asked))
    assert "eth0: xdp program replaced" in list(load(asked))


def test_auto_attaches_xdp_once(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    """A NIC resets its rings each time XDP comes or goes."""
    monkeypatch.setattr("services.dataplane.load.loader._BETTER_ON_TC", frozenset())
    made, create = list[str](), links._create_link

    def counted(mode: str, program: int, nic: Nic) -> int:
        made.append(mode)
        return create(mode, program, nic)

    monkeypatch.setattr(links, "_create_link", counted)
    list(load(options))
    assert "eth0: xdp program attached" in list(load(replace(options, hook="auto")))
    assert made == ["tc", "egress", "xdp"]
    assert not list(options.directory.glob("try_*"))
    assert "eth0: xdp program replaced" in list(load(replace(options, hook="auto")))


def test_interface_that_was_made_anew_is_attached_anew(options: Options) -> None:
    list(load(options))
    sh("ip link delete eth0; ip link add eth0 type veth peer name eth1; ip link set eth0 up")
    assert "eth0: tc program attached" in list(load(options))


PODS = ("eth0", "pod*")


def test_interfaces_a_pattern_stands_for_are_attached_and_write_from_the_first_named(options: Options) -> None:
    sh("ip link add pod1 type veth peer name in1; ip link add pod2 type veth peer name in2; ip address add 10.9.0.1/32 dev pod2")
    lines = list(load(replace(options, interfaces=PODS, hook="auto")))
    assert [line for line in lines if "attached" in line] == [f"{name}: tc program attached" for name in ("eth0", "pod1", "pod2")]
    assert sources(options) == {"eth0": "192.0.2.7", "pod1": "192.0.2.7", "pod2": "10.9.0.1"}


def test_interfaces_of_a_pattern_come_and_go(options: Options) -> None:
    pods = replace(options, interfaces=PODS)
    list(load(pods))
    sh("ip link add pod1 type veth peer name in1; ip link add other type veth peer name others")
    assert "pod1: tc program attached" in list(follow(pods))
    assert list(follow(pods)) == []
    sh("ip link delete pod1; ip link add pod1 type veth peer name in1; ip link add pod2 type veth peer name in2")
    assert [line for line in follow(pods) if "attached" in line] == ["pod1: tc program attached", "pod2: tc program attached"]
    assert sources(options) == {"eth0": "192.0.2.7", "pod1": "192.0.2.7", "pod2": "192.0.2.7"}
    sh("ip link delete pod1; ip link set pod2 name away")
    assert sorted(follow(pods)) == ["pod1: detached", "pod2: detached"]
    assert set(sources(options)) == {"eth0"}
    sh("ip link add pod1 type veth peer name in1; ip link set eth0 name away0")
    assert list(follow(pods)) == [], "one that is named is away: all waits for it"


def test_index_and_name_that_are_used_again_are_attached_again(options: Options) -> None:
    pods = replace(options, interfaces=PODS)
    sh("ip link add pod1 index 900 type veth peer name in1")
    list(load(pods))
    for gone, name in (("pod1", "pod2"), ("pod2", "pod2")):
        sh(f"ip link delete {gone}; ip link add {name} index 900 type veth peer name in1")
        assert [line for line in follow(pods) if "attached" in line] == ["pod2: tc program attached"]
    sh("ip link set pod2 name pods")
    assert list(follow(pods)) == ["pod2: detached", "pods: tc program attached"]
    assert sources(options) == {"eth0": "192.0.2.7", "pods": "192.0.2.7"}


def test_following_holds_no_descriptors(options: Options) -> None:
    pods = replace(options, interfaces=PODS)
    list(load(pods))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        list(follow(pods))
    assert len(os.listdir("/proc/self/fd")) == before


def test_one_that_cannot_be_attached_leaves_the_others_alone(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(each: Nic, _: Settings) -> Iterator[str]:
        if each.name == "pod1":
            raise NicError("its sysctl is not ours")
        return iter(())

    sh("ip link add pod1 type veth peer name in1; ip link add pod2 type veth peer name in2")
    monkeypatch.setattr("services.dataplane.load.loader.prepare", refuse)
    lines = list(load(replace(options, interfaces=PODS)))
    assert "pod1: not attached: its sysctl is not ours" in lines
    assert set(sources(options)) == {"eth0", "pod2"}


def test_name_that_a_pattern_means_too_is_attached_once(options: Options) -> None:
    sh("ip link property add dev eth0 altname other0")
    assert "eth0: tc program attached" in list(load(replace(options, interfaces=("eth0", "eth*", "pod*"))))
    assert sources(options).keys() - {"eth0.5"} == {"eth0", "eth1"}
    list(load(replace(options, interfaces=("other0", "eth*"))))
    assert sources(options).keys() - {"eth0.5"} == {"eth0", "eth1"}


@pytest.mark.parametrize(("asked", "said"), [(("eth0", "*"), "a prefix before it"), (("eth*",), "one by its full name too")])
def test_patterns_that_mean_too_much_are_refused(options: Options, asked: tuple[str, ...], said: str) -> None:
    with pytest.raises(LoaderError, match=said):
        list(load(replace(options, interfaces=asked)))


def test_agent_tells_of_an_interface_that_nobody_attaches(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    pods, where = replace(options, interfaces=PODS), Where(options.pins.name)
    assert where.pins == options.pins
    monkeypatch.setattr("services.dataplane.node.ATTACHED_WITHIN_S", 0.0)
    list(load(pods))
    agent = Agent(where, "n1", "tc", PODS)

    def refused() -> list[str]:
        agent.node.refresh_interfaces()
        return [each.entity for event in agent._news(World()) if isinstance(event, AppliedThrough) for each in event.rejected]

    assert refused() == []
    sh("ip link add pod1 type veth peer name in1")
    assert refused() == ["interface pod1"]
    list(follow(pods))
    assert refused() == []


def test_pattern_is_attached_to_tc_alone(options: Options) -> None:
    beside_xdp = replace(options, interfaces=("eth0=xdp", "pod*"))
    list(load(beside_xdp))
    sh("ip link add pod1 type veth peer name in1")
    assert "pod1: tc program attached" in list(follow(beside_xdp))
    with pytest.raises(LoaderError, match=r"pod\*=xdp: interfaces that come and go are attached to tc"):
        list(load(replace(options, interfaces=("eth0", "pod*=xdp"))))


def sources(options: Options) -> dict[str, str]:
    """Interface -> the address that source NAT writes from there."""
    entries = Map.open(options.directory / "interfaces").items()
    return {socket.if_indextoname(ID.unpack(key)[0]): Interface.unpack(value).v4 for key, value in entries}


def test_detach_leaves_nothing(options: Options) -> None:
    list(load(options))
    assert list(detach(options.pins)) == ["eth0: detached"]
    assert not options.pins.exists()
    assert list(detach(options.pins)) == []


def state_of(*interfaces: str) -> dict[str, str]:
    """All that the loader may change."""
    files = [path for name in interfaces for path in Path("/proc/sys/net").glob(f"ipv?/*/{name}/*") if path.name != "stable_secret"]
    links = {name: str("ALLMULTI" in sh(f"ip link show {name}")) for name in interfaces}
    return {str(path): path.read_text() for path in files} | links


def test_settings_are_put_back(options: Options, tmp_path: Path) -> None:
    """After any number of loads, also of an interface that is not asked for any more; one that another changed since stays."""
    sh("ip link add eth2 type veth peer name eth3; ip link set eth2 up; sysctl -qw net.ipv6.conf.eth0.forwarding=1")
    record = tmp_path / "settings.json"
    kept, before = replace(options, record=record), state_of("eth0", "eth2")
    list(load(replace(kept, interfaces=("eth0", "eth2"))))
    assert state_of("eth0", "eth2") != before
    assert "eth2: allmulti set back to 0" in list(load(kept))
    assert {name: value for name, value in state_of("eth2").items() if before[name] != value} == {}
    list(load(kept))
    sh("sysctl -qw net.ipv4.neigh.eth0.base_reachable_time_ms=7000")
    list(detach(options.pins, record))
    changed = {name: value for name, value in state_of("eth0").items() if before[name] != value}
    assert changed.pop("/proc/sys/net/ipv4/neigh/eth0/base_reachable_time_ms") == "7000\n"
    changed.pop("/proc/sys/net/ipv4/neigh/eth0/base_reachable_time", None)  # the same in seconds
    assert changed == {}
    assert not record.exists()


@pytest.mark.parametrize("other", ["boot", "interface"])
def test_settings_of_another_boot_or_interface_are_not_put_back(
    options: Options, tmp_path: Path, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There the value that looks like ours is the machine's own."""
    record = tmp_path / "settings.json"
    list(load(replace(options, record=record)))
    if other == "boot":
        (tmp_path / "boot").write_text("another")
        monkeypatch.setattr("services.dataplane.load.interface_settings._BOOT", tmp_path / "boot")
    else:
        sh("sysctl -qw net.ipv4.conf.default.forwarding=1; ip link del eth0")
        sh("ip link add eth0 type veth peer name eth1; ip link set eth0 up")
    list(detach(options.pins, record))
    assert Path("/proc/sys/net/ipv4/conf/eth0/forwarding").read_text() == "1\n"


def test_pins_of_another_layout_are_refused(options: Options, capsys: pytest.CaptureFixture[str]) -> None:
    (options.pins / "v0").mkdir(parents=True)
    assert main(["--pins", str(options.pins), "--interface", "eth0"]) == 1
    mend = f"take them off first (weir down --instance {options.pins.name})"
    assert capsys.readouterr().err.strip().endswith(f"holds pins of layout v0, this is v{LAYOUT}: {mend}")
    assert main(["--pins", str(options.pins), "--detach"]) == 0


def test_map_of_another_size_is_refused(options: Options) -> None:
    list(load(options))
    with pytest.raises(LoaderError, match=r"flow_index: type, key, value and entries .* detach first"):
        list(load(replace(options, maps=map_specs(2048, 64, 256, 1024))))


def test_too_little_memory_is_told_with_what_all_maps_take(options: Options) -> None:
    """In a control group, as a container's is; the limit of the pod of deploy/base is for a machine of 128 processors."""
    group = Path(f"/sys/fs/cgroup/weir-test-{os.getpid()}")
    if not (group.parent / "cgroup.controllers").exists():
        group = Path(f"/sys/fs/cgroup/memory/weir-test-{os.getpid()}")
    group.mkdir()
    limit = group / ("memory.max" if (group / "memory.max").exists() else "memory.limit_in_bytes")
    limit.write_text(str(64 << 20))
    words = [sys.executable, "-m", "services.dataplane.load.loader", "--pins", str(options.pins), "--interface", "eth0"]
    done = subprocess.run(
        ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh", *words], capture_output=True, text=True, check=False
    )
    group.rmdir()
    assert done.returncode == 1
    assert "Cannot allocate memory: all maps take " in done.stderr
    assert "MiB on" in done.stderr
    assert memory_bytes(map_specs(), 128) < 2 << 30


def test_missing_interface(options: Options) -> None:
    with pytest.raises(LoaderError, match=r"no interface 'eth9'"):
        list(load(replace(options, interfaces=("eth9",))))


def test_verifier_is_quoted(options: Options, tmp_path: Path) -> None:
    with pytest.raises(LoaderError, match=r"weir_tc.o does not exist: `make setup` builds it"):
        list(load(replace(options, objects=tmp_path)))
    (tmp_path / "weir_tc.o").write_bytes(b"nonsense")
    with pytest.raises(LoaderError, match=r"weir_tc.o cannot be read: "):
        list(load(replace(options, objects=tmp_path)))
    source = tmp_path / "weir_tc.c"
    program = 'SEC("tc") int weir_tc{}(struct __sk_buff *ctx) {{ return {}; }}\n'
    parts = (("", "*(int *)(long)ctx->data"), ("_answer", "0"), ("_new", "0"))
    source.write_text('#include "lib/headers.h"\n' + "".join(program.format(*part) for part in parts))
    compiled(source, tmp_path / "weir_tc.o")
    with pytest.raises(LoaderError, match=r"the kernel refused weir_tc: Permission denied: .*"):
        list(load(replace(options, objects=tmp_path)))
    source.write_text('#include "lib/headers.h"\n' + program.format("", "0"))
    compiled(source, tmp_path / "weir_tc.o")
    with pytest.raises(LoaderError, match=r"the object has no program weir_tc_answer: `make setup` builds it again"):
        list(load(replace(options, objects=tmp_path)))


@pytest.mark.parametrize("hook", HOOKS)
def test_verifier_has_room(options: Options, hook: str) -> None:
    """A quarter of the budget of a million instructions is what we want to spend, and half what another kernel may make of it."""
    list(load(options))
    maps = {path.name: open_pin(path) for path in options.directory.iterdir() if not path.name.startswith(("link_", "prog_", "egress_"))}
    with load_programs(HOOKS[hook], maps) as main, Map.open(options.directory / f"programs_{'tc' if hook == 'egress' else hook}") as others:
        parts = HOOKS[hook].parts[1:]
        ids = [ID.unpack(others.get(ID.pack(number)) or b"")[0] for number in range(1, 1 + len(parts))]
        spent = {"main": verified(main)} | {
            part: verified(libbpf().bpf_prog_get_fd_by_id(each)) for part, each in zip(parts, ids, strict=True)
        }
    print(spent)
    assert max(spent.values()) < 250_000


def verified(program: int) -> int:
    """How many instructions the verifier has processed for it: bpf_prog_info.verified_insns."""
    info, size = ctypes.create_string_buffer(256), ctypes.c_uint32(256)
    assert libbpf().bpf_obj_get_info_by_fd(program, info, ctypes.byref(size)) == 0
    return int.from_bytes(info.raw[216:220], "little")


def test_preflight_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert preflight() == []
    assert preflight(Path("/tmp/weir")) == ["pin directory /tmp/weir: not on a bpf file system"]
    assert "expected an absolute path" in preflight(Path("/sys/fs/bpf/a b"))[0]
    monkeypatch.setattr("services.dataplane.load.preflight.KERNEL_TYPES", Path("/nowhere"))
    monkeypatch.setattr("services.dataplane.load.preflight.CAPABILITIES", {"CAP_NOT_YET": 63})
    problems = " / ".join(preflight())
    assert "no /nowhere: a kernel with CONFIG_DEBUG_INFO_BTF is needed" in problems
    assert "missing capability: CAP_NOT_YET" in problems


def test_preflight_refuses_a_shell_whose_mounts_vanish_with_it_whether_or_not_it_may_mount() -> None:
    """`ip netns exec` mounts a sysfs of its own over /sys, and nothing that is mounted below it then outlives the command."""
    name = f"weir-shell-{os.getpid()}"
    ask = "from services.dataplane.load.preflight import preflight; print(preflight(mount={}))"
    sh(f"ip netns add {name}")
    try:
        for mount in (True, False):
            for before in ("true", "mount -t bpf bpf /sys/fs/bpf"):
                found = sh(f"ip netns exec {name} sh -c '{before} && {sys.executable} -c \"{ask.format(mount)}\"'")
                words = f"this shell is of ip netns exec {name}: pins would vanish with its mounts; use nsenter --net=/run/netns/{name}"
                assert found.strip() == str([words])
            assert sh(f"nsenter --net=/run/netns/{name} {sys.executable} -c '{ask.format(mount)}'").strip() == "[]"
    finally:
        sh(f"ip netns del {name}")


def test_interfaces_key_is_the_index(options: Options) -> None:
    list(load(options))
    (key,) = [key for key, _ in Map.open(options.directory / "interfaces").items()]
    assert ID.unpack(key)[0] == int(sh("ip -o link show eth0").split(":")[0])

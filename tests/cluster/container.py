"""One container as a process of this machine: its own root (an overlay of this machine's), mounts, host name, user and capabilities.

Everything is set up in a mount namespace that only the process has, so that nothing is left of it when it ends.  The process
keeps the pid it was started with: signals go to it directly, as a container runtime sends them.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from tests.cluster import seccomp
from tests.cluster.api import Object
from tests.cluster.images import entrypoint
from tests.cluster.volumes import expand

ROOT = Path(__file__).parents[2]
SEARCHED = f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_USUAL = "chown dac_override fowner fsetid kill setgid setuid setpcap net_bind_service net_raw sys_chroot mknod audit_write setfcap"
_SCRIPT = """
mount --make-rslave /
mount -t tmpfs none "$DIR"
mkdir "$DIR/upper" "$DIR/work" "$DIR/root"
R=$DIR/root
mount -t overlay none -o "lowerdir=/,upperdir=$DIR/upper,workdir=$DIR/work" "$R"
mount -t proc none "$R/proc" 2>/dev/null || mount --rbind /proc "$R/proc"
mount -t sysfs none "$R/sys"
mount --rbind /dev "$R/dev"
mount -t tmpfs none "$R/run"
mount -t tmpfs -o mode=1777 none "$R/tmp"
"""


class Pod(msgspec.Struct, frozen=True):
    """Where a pod's containers run.  space: its namespace in the API; namespace: that of its network, none for its node's."""

    name: str
    space: str
    folder: Path
    namespace: Path | None
    volumes: Mapping[str, Path]
    spec: Object
    dns: str


class Container:
    """One life of a container; `ended` is called, on a thread of its own, when it is over."""

    def __init__(self, pod: Pod, spec: Object, environment: Mapping[str, str], ended: Callable[[], None]) -> None:
        """Starts it.  Raises KeyError for an image that nothing stands for."""
        self.name: str = spec["name"]
        self.started = datetime.now().astimezone()
        self._pod = pod
        self.environment = {"PATH": SEARCHED, "HOME": "/root", "HOSTNAME": pod.name, **environment}
        log = log_file(pod.folder, self.name)
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                _command(pod, spec, self.environment),
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        threading.Thread(target=lambda: (self._process.wait(), ended()), daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def code(self) -> int | None:
        """Exit code, 128 + the signal's number where one ended it; None while it runs."""
        found = self._process.poll()
        return 128 - found if found is not None and found < 0 else found

    def wait(self, most_s: float) -> None:
        """Until it has ended, or that long."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(most_s)

    def terminate(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    def kill(self) -> None:
        """With all that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def execute(self, argv: Sequence[str], timeout_s: float) -> bool:
        """Runs a command where the container runs; whether it ended well in time."""
        inside = ["nsenter", "--target", str(self.pid), "--mount", "--net", "--uts", "--root", *argv]
        try:
            return subprocess.run(inside, env=self.environment, capture_output=True, timeout=timeout_s, check=False).returncode == 0
        except subprocess.TimeoutExpired:
            return False


def log_file(folder: Path, container: str) -> Path:
    """Where the output of a pod's container goes."""
    return folder / f"{container}.log"


def _command(pod: Pod, spec: Object, environment: Mapping[str, str]) -> list[str]:
    """The process from outside to inside: namespaces, mounts, root, user and capabilities, and the program."""
    words = [expand(word, environment) for word in spec.get("args", ())]
    words = (
        [*(expand(word, environment) for word in spec.get("command", ())), *words]
        if "command" in spec
        else [*entrypoint(spec["image"]), *words]
    )
    place = ["nsenter", f"--net={pod.namespace}"] if pod.namespace else []
    secured = {**pod.spec.get("securityContext", {}), **spec.get("securityContext", {})}
    outside = [*place, "unshare", "--mount", "--uts", "sh", "-euc", _script(pod, spec, secured, environment), "sh"]
    return [*outside, *_confined(secured), *_resolved(words)]


def _resolved(words: Sequence[str]) -> list[str]:
    """`python` is the interpreter that the tests run under."""
    return [sys.executable if words[0] in ("python", "python3") else words[0], *words[1:]]


def _script(pod: Pod, spec: Object, secured: Object, environment: Mapping[str, str]) -> str:
    directory = pod.folder / "roots" / spec["name"]
    directory.mkdir(parents=True, exist_ok=True)
    hosts, resolver = pod.folder / "hosts", pod.folder / "resolv.conf"
    hosts.write_text(f"127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {pod.name}\n")
    resolver.write_text(f"nameserver {pod.dns}\nsearch {pod.space}.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n")
    lines = [f"DIR={directory}", _SCRIPT]
    if not secured.get("privileged"):
        lines += ['mount --bind "$R/proc/sys" "$R/proc/sys"; mount -o remount,ro,bind "$R/proc/sys"', 'mount -o remount,ro,bind "$R/sys"']
    lines += [_bind(hosts, "/etc/hosts"), _bind(resolver, "/etc/resolv.conf")]
    lines += _mounts(pod, spec, environment)
    lines += [_bind(path, str(path), read_only=True) for path in _programs()]  # last: a volume over /tmp must not hide a checkout there
    if secured.get("readOnlyRootFilesystem"):
        mounted = {mount["mountPath"] for mount in spec.get("volumeMounts", ())}
        lines += [f'mount -o remount,ro,bind "$R{place}"' for place in ("", "/tmp", "/run") if place not in mounted]
    if not pod.spec.get("hostNetwork"):
        lines.append(f"echo {pod.name} >/proc/sys/kernel/hostname")
    directory_inside = spec.get("workingDir", str(ROOT))
    return "\n".join([*lines, f'exec chroot "$R" env -C {directory_inside} "$@"'])


def _mounts(pod: Pod, spec: Object, environment: Mapping[str, str]) -> Iterator[str]:
    """Shell: the volumes of a container, outer places before inner ones."""
    for mount in sorted(spec.get("volumeMounts", ()), key=lambda mount: str(mount["mountPath"])):
        inside = expand(mount["subPathExpr"], environment) if "subPathExpr" in mount else mount.get("subPath", "")
        place = os.path.realpath(mount["mountPath"])  # the links of the container's root are this machine's: /var/run is /run
        yield _bind(pod.volumes[mount["name"]] / inside, place, read_only=mount.get("readOnly", False))


def _bind(source: Path, place: str, *, read_only: bool = False) -> str:
    """Shell: mounts a file or a folder, making the place where it is not there."""
    inside = f'"$R{place}"'
    make = f'[ -e {inside} ] || {{ mkdir -p "$(dirname {inside})"; : >{inside}; }}' if source.is_file() else f"mkdir -p {inside}"
    flags = f"; mount -o remount,ro,bind {inside}" if read_only else ""
    return f'{make}; mount --bind "{source}" {inside}{flags}'


def _programs() -> set[Path]:
    """What must be there even where it is another file system than this machine's root."""
    return {path for path in (ROOT, Path(sys.prefix)) if not path.is_relative_to("/usr")}


def _confined(secured: Object) -> list[str]:
    """System calls, user and capabilities, as Kubernetes hands them out: a user other than root has none."""
    words = ["setpriv", "--inh-caps=-all"]
    if secured.get("seccompProfile", {}).get("type") == "RuntimeDefault" and not secured.get("privileged"):
        words = [sys.executable, seccomp.__file__, *words]
    if not secured.get("privileged"):
        words.append(f"--bounding-set=-all{''.join(f',+{name}' for name in _capabilities(secured.get('capabilities', {})))}")
    user, group = secured.get("runAsUser", 0), secured.get("runAsGroup", 0)
    if user or group:
        words += [f"--reuid={user}", f"--regid={group}"]
    words.append(f"--groups={secured['fsGroup']}" if "fsGroup" in secured else "--clear-groups")
    if secured.get("allowPrivilegeEscalation") is False:
        words.append("--no-new-privs")
    return [*words, "--"]


def _capabilities(given: Object) -> list[str]:
    names = set(_USUAL.split())
    dropped = {name.lower() for name in given.get("drop", ())}
    names = set() if "all" in dropped else names - dropped
    return sorted(names | {name.lower().removeprefix("cap_") for name in given.get("add", ())})

"""A real Kubernetes control plane without a machine behind it: etcd, kube-apiserver, kube-controller-manager, kube-scheduler.

    with Cluster("mytest") as cluster:
        cluster.api.apply(manifest)
        run("python", "-m", "services.watcher", "--cluster", f"c={cluster.kubeconfig}")

Several with different names live side by side, each with ports and a folder of its own; on leaving, all of it is gone.
"""

import contextlib
import csv
import io
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from tests.cluster.api import TIMEOUT_S, Api, ApiError, Object
from tests.cluster.binaries import binary, module
from tests.own import free_ports
from weir.cli.box.supervise import die_with_parent
from weir.demo.network import wait_until

ADMIN = "admin"
SERVICE_NETWORKS = "10.96.0.0/16,fd96::/112"
ROOT = Path(__file__).parents[2]
PATIENCE_S = 180  # against hanging; how long a thing takes on a busy machine proves nothing


class Cluster:
    """The cluster called `name`.

    users: further users and their groups, each with a token of its own; `admin` may do everything.
    address: where the API server listens and is reached.   command: what every process is started with, `nsenter --net=…` say.
    """

    def __init__(
        self,
        name: str,
        *,
        users: Mapping[str, Sequence[str]] | None = None,
        address: str = "127.0.0.1",
        command: Sequence[str] = (),
        arguments: Sequence[str] = (),
    ) -> None:
        """arguments: more of them for the API server."""
        self.name = name
        self.folder = folder_of(name)
        self.address = address
        self._users = {ADMIN: ("system:masters",), **(users or {})}
        self._command, self._arguments = command, arguments
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        try:
            self._prepare()
            self._start_etcd()
            self.start_apiserver()
            self._start_controllers()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        for process in reversed(self._processes.values()):
            process.kill()  # a stopped one too
            process.wait()
        self._processes.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    # ── use ────────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def url(self) -> str:
        return f"https://{self.address}:{self._ports[0]}"

    @property
    def kubeconfig(self) -> Path:
        """Of the admin."""
        return self.kubeconfig_of(ADMIN)

    def kubeconfig_of(self, user: str) -> Path:
        """Of a user named at the start."""
        return self._kubeconfig(user, self._tokens[user])

    def kubeconfig_of_account(self, namespace: str, account: str) -> Path:
        """Of a service account, by a token that the API server made for it."""
        return self._kubeconfig(f"{namespace}.{account}", self.account_token(namespace, account))

    def account_token(self, namespace: str, account: str) -> str:
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        answer: Object = self.api.post(path, {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}})
        token: str = answer["status"]["token"]
        return token

    def api_as(self, user: str, timeout_s: float = TIMEOUT_S) -> Api:
        """A user named at the start."""
        return self.api_of(self._tokens[user], timeout_s)

    def api_of(self, token: str, timeout_s: float = TIMEOUT_S) -> Api:
        return Api(self.url, self._authority.read_text(), token, timeout_s)

    def kubectl(self, *words: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
        argv = [str(binary("cluster")), "kubectl", "--kubeconfig", str(self.kubeconfig), *words]
        return subprocess.run([*self._command, *argv], text=True, capture_output=True, check=check, **options)

    def install_gateway_api(self, channel: str = "standard") -> None:
        """channel: standard or experimental."""
        folder = module("sigs.k8s.io/gateway-api") / "config" / "crd" / channel
        self.install_crds(*(path for path in folder.glob("*.yaml") if path.name != "kustomization.yaml"))

    def install_crds(self, *paths: Path) -> None:
        """Weir's own where none is named.  Returns once the server serves them."""
        found = paths or sorted(path for path in (ROOT / "deploy" / "crds").glob("*.yaml") if path.name != "kustomization.yaml")
        made = self.api.apply(*(path.read_text() for path in found))
        for crd in (one for one in made if one["kind"] == "CustomResourceDefinition"):
            self.wait_for(f"{crd['metadata']['name']} established", lambda path=self.api.path(crd): _established(self.api.get(path)))
            self.wait_for(f"{crd['metadata']['name']} known", lambda crd=crd: [self.api.path(one) for one in _served(crd)])  # later

    def wait_for(self, what: str, done: Any, patience_s: float = PATIENCE_S) -> None:
        """Asks `done` until it holds; a refusal of the server and a field that is not there count as not yet.  Raises AssertionError."""

        def holds() -> bool:
            with contextlib.suppress(ApiError, OSError, LookupError):
                return bool(done())
            return False

        assert wait_until(holds, patience_s), f"{what}: not within {patience_s:.0f} s{self._ended()}"

    def _ended(self) -> str:
        """Which processes did, with their last words."""
        ended = [name for name, process in self._processes.items() if process.poll() is not None]
        return "".join(f"; {name} has ended: {self.log(name).read_text()[-2000:]}" for name in ended)

    # ── faults ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def start_apiserver(self) -> None:
        """On the port it had before; returns once it is ready."""
        self._start("kube-apiserver", *self._apiserver_flags())
        self.wait_for("the API server ready", self._ready)

    def kill_apiserver(self) -> None:
        process = self._processes.pop("kube-apiserver")
        process.kill()
        process.wait()

    def forget(self) -> None:
        """Makes etcd keep the last version of everything alone: what asks for changes since an earlier one is told 410."""
        found = self._etcd("kv/range", {"key": "AA=="})
        self._etcd("kv/compaction", {"revision": found["header"]["revision"], "physical": True})

    def _etcd(self, what: str, body: Object) -> Object:
        words = ("curl", "-s", "--fail", "-d", json.dumps(body), f"http://127.0.0.1:{self._ports[1]}/v3/{what}")
        done = subprocess.run([*self._command, *words], check=True, capture_output=True, text=True)
        answer: Object = json.loads(done.stdout)
        return answer

    def freeze_apiserver(self) -> None:
        """It keeps its connections and says nothing more."""
        self._processes["kube-apiserver"].send_signal(signal.SIGSTOP)

    def thaw_apiserver(self) -> None:
        self._processes["kube-apiserver"].send_signal(signal.SIGCONT)

    def pid(self, process: str) -> int:
        """Of etcd, kube-apiserver, kube-controller-manager or kube-scheduler."""
        return self._processes[process].pid

    def log(self, process: str) -> Path:
        return self.folder / f"{process}.log"

    # ── starting ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _prepare(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(mode=0o700)
        self._ports = free_ports(3)
        self._tokens = {user: os.urandom(16).hex() for user in self._users}
        table = io.StringIO()
        csv.writer(table).writerows([token, user, user, ",".join(self._users[user])] for user, token in self._tokens.items())
        (self.folder / "tokens.csv").write_text(table.getvalue())
        subprocess.run(["openssl", "genrsa", "-out", str(self._key), "2048"], check=True, capture_output=True)

    def _start_etcd(self) -> None:
        _, clients, peers = self._ports
        at = f"http://127.0.0.1:{clients},http://127.0.0.1:{peers}".split(",")
        names = ("--listen-client-urls", "--advertise-client-urls", "--listen-peer-urls", "--initial-advertise-peer-urls")
        urls = [word for name, url in zip(names, (at[0], at[0], at[1], at[1]), strict=True) for word in (name, url)]
        data = ("--data-dir", str(self.folder / "etcd"), "--initial-cluster", f"default={at[1]}")
        self._start("etcd", "--unsafe-no-fsync", "--log-level", "error", *data, *urls)

    def _start_controllers(self) -> None:
        fast = (
            "--leader-elect=false",
            "--secure-port=0",
            "--kube-api-qps=2000",
            "--kube-api-burst=4000",
            "--kubeconfig",
            str(self.kubeconfig),
        )
        keys = ("--service-account-private-key-file", str(self._key), "--root-ca-file", str(self._authority))
        self._start("kube-controller-manager", *fast, *keys)
        self._start("kube-scheduler", *fast)
        accounts = "/api/v1/namespaces/default/serviceaccounts/default"  # without it no pod is admitted
        self.wait_for("the controllers at work", lambda: self.api.get(accounts))

    def _start(self, name: str, *words: str) -> None:
        argv = [*self._command, str(binary("cluster")), name, *words]
        with self.log(name).open("ab") as log:
            self._processes[name] = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=die_with_parent, start_new_session=True
            )

    def _apiserver_flags(self) -> list[str]:
        port, clients, _ = self._ports
        flags = {
            "etcd-servers": f"http://127.0.0.1:{clients}",
            "secure-port": str(port),
            "bind-address": self.address,
            "advertise-address": self.address,
            "cert-dir": str(self.folder),
            "service-account-key-file": str(self._key),
            "service-account-signing-key-file": str(self._key),
            "service-account-issuer": "https://kubernetes.default.svc",
            "token-auth-file": str(self.folder / "tokens.csv"),
            "authorization-mode": "RBAC",
            "service-cluster-ip-range": SERVICE_NETWORKS,
            "allow-privileged": "true",
            "kubelet-preferred-address-types": "InternalIP",
        }
        return [*(f"--{name}={value}" for name, value in flags.items()), *self._arguments]

    def _ready(self) -> bool:
        if (code := self._processes["kube-apiserver"].poll()) is not None:
            raise RuntimeError(f"kube-apiserver ended with code {code}: {self.log('kube-apiserver').read_text()[-1000:]}")
        if not self._authority.exists():
            return False
        self.api = self.api_as(ADMIN)
        return bool(self.api.get("/readyz") == "ok")

    # ── files ──────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _key(self) -> Path:
        return self.folder / "accounts.key"

    @property
    def _authority(self) -> Path:
        """The API server's certificate, which it signed itself."""
        return self.folder / "apiserver.crt"

    def _kubeconfig(self, user: str, token: str) -> Path:
        path = self.folder / f"{user}.kubeconfig"
        server = {"server": self.url, "certificate-authority": str(self._authority)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": self.name, "cluster": server}],
            "users": [{"name": user, "user": {"token": token}}],
            "contexts": [{"name": self.name, "context": {"cluster": self.name, "user": user}}],
            "current-context": self.name,
        }
        path.write_text(yaml.safe_dump(config))
        return path


def folder_of(name: str) -> Path:
    """Of a cluster of that name: all that is its own but what Weir keeps."""
    return Path(tempfile.gettempdir()) / f"{name}.cluster"


def _served(crd: Object) -> list[Object]:
    """An object of each version."""
    spec = crd["spec"]
    versions = [f"{spec['group']}/{version['name']}" for version in spec["versions"] if version["served"]]
    return [{"apiVersion": each, "kind": spec["names"]["kind"], "metadata": {"name": "any"}} for each in versions]


def _established(crd: Object) -> bool:
    return any(one["type"] == "Established" and one["status"] == "True" for one in crd.get("status", {}).get("conditions") or ())

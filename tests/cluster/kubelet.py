"""A node for the tests: what a kubelet does towards the API, with processes and network namespaces in place of containers.

Runs in its node's network namespace.  When it is killed its pods run on, as a real one's do; the rig ends them.
"""

import argparse
import contextlib
import http.client
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from tests.cluster.api import Api, ApiError, Object
from tests.cluster.claims import serve_claims
from tests.cluster.logs import PORT, serve_logs
from tests.cluster.names import serve_names
from tests.cluster.network import Ranges
from tests.cluster.pod import Life, Place
from tests.cluster.status import node_status

LEASE_S, RETRY_S = 10, 0.2
_FAILURES = (ApiError, OSError, http.client.HTTPException, ValueError)


class Kubelet:
    """Registers its node, keeps its Lease, and gives every pod bound to it a life."""

    def __init__(self, api: Api, place: Place, labels: dict[str, str]) -> None:
        self._api, self._place, self._labels = api, place, labels
        self._lives: dict[str, Life] = {}

    def run(self) -> None:
        """For ever."""
        while True:
            with contextlib.suppress(*_FAILURES):
                self._register()
                break
            time.sleep(RETRY_S)
        threading.Thread(target=self._renew, daemon=True).start()
        while True:
            with contextlib.suppress(*_FAILURES):
                self._follow()
            time.sleep(RETRY_S)

    def _register(self) -> None:
        name = self._place.node
        labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64", **self._labels}
        meta = {"name": name, "labels": labels}
        self._api.apply({"apiVersion": "v1", "kind": "Node", "metadata": meta})
        status = node_status(self._place.addresses, PORT, _now())
        self._api.patch(f"/api/v1/nodes/{name}/status", {"status": status}, "strategic-merge-patch")
        self._lease()

    def _renew(self) -> None:
        """The status too: after a while without a Lease the cluster holds the node for lost."""
        while True:
            time.sleep(LEASE_S)
            with contextlib.suppress(*_FAILURES):
                self._lease()
                status = node_status(self._place.addresses, PORT, _now())
                self._api.patch(f"/api/v1/nodes/{self._place.node}/status", {"status": status}, "strategic-merge-patch")

    def _lease(self) -> None:
        meta = {"name": self._place.node, "namespace": "kube-node-lease"}
        renewed = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {"holderIdentity": self._place.node, "leaseDurationSeconds": 40, "renewTime": renewed}
        self._api.apply({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": spec})

    def _follow(self) -> None:
        """Lists the node's pods, then follows them until the server ends the stream."""
        mine = f"spec.nodeName={self._place.node}"
        listed = self._api.get("/api/v1/pods", fieldSelector=mine)
        known = {pod["metadata"]["uid"]: pod for pod in listed["items"]}
        for uid, pod in known.items():
            self._see(uid, pod)
        for uid in self._lives.keys() - known.keys():
            self._see(uid, None)
        for event in self._api.watch("/api/v1/pods", listed["metadata"]["resourceVersion"], fieldSelector=mine):
            if event["type"] not in ("ADDED", "MODIFIED", "DELETED"):
                return
            pod = event["object"]
            self._see(pod["metadata"]["uid"], None if event["type"] == "DELETED" else pod)

    def _see(self, uid: str, pod: Object | None) -> None:
        if pod and uid not in self._lives:
            life = self._lives[uid] = Life(self._api, pod, self._place)
            life.start()
        elif pod:
            self._lives[uid].happened(pod)
        elif life := self._lives.pop(uid, None):
            life.happened(None)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cluster", required=True, help="name of its namespaces and folders")
    parser.add_argument("--kubeconfig", required=True, type=Path)
    parser.add_argument("--node", required=True)
    parser.add_argument("--address", required=True, action="append", help="of the node, IPv4 first")
    parser.add_argument("--pods", required=True, action="append", help="network of its pods, IPv4 first")
    parser.add_argument("--mtu", type=int, default=1500)
    parser.add_argument("--apart", action="store_true", help="every second pod has an interface of the node to itself")
    parser.add_argument("--label", action="append", default=[], help="NAME=VALUE")
    parser.add_argument("--claims", action="store_true", help="make volumes for the claims of the cluster")
    args = parser.parse_args()
    api = Api.of(args.kubeconfig)
    folder = args.kubeconfig.parent
    server = urlsplit(api.url)
    environment = {"KUBERNETES_SERVICE_HOST": str(server.hostname), "KUBERNETES_SERVICE_PORT": str(server.port)}
    place = Place(
        cluster=args.cluster,
        node=args.node,
        addresses=tuple(args.address),
        folder=folder / "nodes" / args.node,
        bpf=Path("/sys/fs/bpf") / f"{args.cluster}-{args.node}",
        environment=environment,
        ranges=Ranges(tuple(args.pods), args.mtu, apart=args.apart),
    )
    serve_logs(place, folder / "apiserver.crt", folder / "apiserver.key")
    serve_names(api, place.addresses[0])
    if args.claims:
        serve_claims(api)
    Kubelet(api, place, dict(label.split("=", 1) for label in args.label)).run()


if __name__ == "__main__":
    main()

"""Storage for pods: every PersistentVolumeClaim gets a PersistentVolume at once, which stands for a folder of this machine."""

import contextlib
import http.client
import threading
import time
from pathlib import Path

from tests.cluster.api import Api, ApiError, Object

RETRY_S = 0.2
_CLAIMS, _VOLUMES = "/api/v1/persistentvolumeclaims", "/api/v1/persistentvolumes"


def serve_claims(api: Api, folder: Path) -> None:
    """For as long as the process lives; one process of a cluster does it.   folder: of the volumes."""

    def serve() -> None:
        while True:
            with contextlib.suppress(ApiError, OSError, http.client.HTTPException, ValueError):
                _follow(api, folder)
            time.sleep(RETRY_S)

    threading.Thread(target=serve, daemon=True).start()


def _follow(api: Api, folder: Path) -> None:
    listed = api.get(_CLAIMS)
    for claim in listed["items"]:
        _give(api, claim, folder)
    for event in api.watch(_CLAIMS, listed["metadata"]["resourceVersion"]):
        if event["type"] == "ADDED":
            _give(api, event["object"], folder)


def _give(api: Api, claim: Object, folder: Path) -> None:
    meta, spec = claim["metadata"], claim["spec"]
    if spec.get("volumeName"):
        return
    place = folder / meta["namespace"] / meta["name"]
    place.mkdir(parents=True, exist_ok=True)
    place.chmod(0o777)  # a kubelet gives no folder of its machine to a pod's group
    reference = {
        "kind": "PersistentVolumeClaim",
        "apiVersion": "v1",
        "namespace": meta["namespace"],
        "name": meta["name"],
        "uid": meta["uid"],
    }
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"claim-{meta['uid']}"},
        "spec": {
            "capacity": spec["resources"]["requests"],
            "accessModes": spec["accessModes"],
            "storageClassName": spec.get("storageClassName", ""),
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": str(place)},
            "claimRef": reference,
        },
    }
    api.apply(volume)

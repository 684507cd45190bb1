"""What a kubelet says of its pods and of itself, as the API has it.  Pure: time comes in as text."""

from collections.abc import Sequence

from tests.cluster.api import Object
from tests.cluster.held import NEVER_S, Held


def pod_status(
    pod: Object, inits: Sequence[Held], mains: Sequence[Held], addresses: Sequence[str], host: Sequence[str], now: str
) -> Object:
    """addresses: of the pod, empty before it has some; host: of its node; now: RFC 3339, for what has changed."""
    old = pod.get("status", {})
    initialised = all(held.done for held in inits)
    ready = initialised and all(held.ready for held in mains) and all(held.ready for held in inits if held.sidecar)
    phase = _phase(mains, initialised=initialised)
    reason = "" if ready else "PodCompleted" if phase in ("Succeeded", "Failed") else "ContainersNotReady"
    states = {
        "PodReadyToStartContainers": bool(addresses),
        "Initialized": initialised,
        "Ready": ready,
        "ContainersReady": ready,
        "PodScheduled": True,
    }
    known = {one["type"]: one for one in old.get("conditions", ())}
    gates = [gate["conditionType"] for gate in pod["spec"].get("readinessGates", ())]
    if not all(known.get(gate, {}).get("status") == "True" for gate in gates):
        states["Ready"], reason = False, "ReadinessGatesNotReady"
    return {
        "phase": phase,
        "hostIP": host[0],
        "hostIPs": [{"ip": one} for one in host],
        **({"podIP": addresses[0], "podIPs": [{"ip": one} for one in addresses]} if addresses else {}),
        "startTime": old.get("startTime", now),
        "observedGeneration": pod["metadata"].get("generation", 1),
        "conditions": [
            _condition(kind, holds, known.get(kind), reason if kind.endswith("Ready") else "", now) for kind, holds in states.items()
        ],
        "initContainerStatuses": [_container(held) for held in inits],
        "containerStatuses": [_container(held) for held in mains],
    }


def node_status(addresses: Sequence[str], port: int, now: str) -> Object:
    """port: of the kubelet's own server."""
    room = {"cpu": "64", "memory": "256Gi", "pods": "240", "ephemeral-storage": "1Ti"}
    return {
        "addresses": [{"type": "InternalIP", "address": address} for address in addresses],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        "capacity": room,
        "allocatable": room,
        "conditions": [_condition("Ready", True, None, "KubeletReady", now)],
        "nodeInfo": {
            **dict.fromkeys(
                ("machineID", "systemUUID", "bootID", "kernelVersion", "osImage", "containerRuntimeVersion", "kubeProxyVersion"), ""
            ),
            "kubeletVersion": "v1.36.3",
            "operatingSystem": "linux",
            "architecture": "amd64",
        },
    }


def _phase(mains: Sequence[Held], *, initialised: bool) -> str:
    if all(held.again_s == NEVER_S for held in mains):
        return "Failed" if any(held.code for held in mains) else "Succeeded"
    return "Running" if initialised and all(held.current for held in mains) else "Pending"


def _condition(kind: str, holds: bool, known: Object | None, reason: str, now: str) -> Object:
    status = "True" if holds else "False"
    since = known["lastTransitionTime"] if known and known["status"] == status and known.get("lastTransitionTime") else now
    return {"type": kind, "status": status, "lastTransitionTime": since, **({"reason": reason} if reason else {})}


def _container(held: Held) -> Object:
    found = {
        "name": held.name,
        "image": held.spec["image"],
        "imageID": held.spec["image"],
        "ready": held.code == 0 if held.initial and not held.sidecar else held.ready,
        "started": held.started,
        "restartCount": max(held.restarts, 0),
    }
    if not (current := held.current):
        reason, message = held.waiting
        return {**found, "state": {"waiting": {"reason": reason, "message": message}}}
    began = current.started.isoformat(timespec="seconds")
    if held.running:
        return {**found, "containerID": f"process://{current.pid}", "state": {"running": {"startedAt": began}}}
    ended = {"exitCode": held.code, "reason": "Error" if held.code else "Completed", "startedAt": began, "finishedAt": began}
    if held.again_s == NEVER_S or held.done:
        return {**found, "state": {"terminated": ended}}
    return {
        **found,
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": f"exit code {held.code}"}},
        "lastState": {"terminated": ended},
    }

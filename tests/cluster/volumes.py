"""What a pod mounts, as folders of this machine, and the values its environment refers to.

Raises NotYet for an object that is not there: whoever asked tries again, as a kubelet does.
"""

import base64
import http.client
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.cluster.api import Api, ApiError, Object

Files = dict[str, bytes]
_EXPANDED = re.compile(r"\$(\$|\(([^)]+)\))")
_SHARED = ("/lib/modules", "/usr/src", "/sys/kernel", "/boot", "/proc")  # of every node alike; other paths are each node's own


class NotYet(Exception):
    """The pod names something that the API server does not have."""


class Volumes:
    """Of one pod; `folder` is its own, `node` that of its node's files."""

    def __init__(self, api: Api, pod: Object, folder: Path, node: Path, bpf: Path) -> None:
        """bpf: stands for the node's BPF file system."""
        self._api, self._pod, self._folder, self._node, self._bpf = api, pod, folder, node, bpf
        self._space: str = pod["metadata"]["namespace"]
        self._kinds: dict[str, Callable[[str, Any], Path]] = {
            "secret": lambda name, given: self._files(name, self._secret(given, given["secretName"]), given),
            "configMap": lambda name, given: self._files(name, self._config(given, given["name"]), given),
            "projected": lambda name, given: self._files(name, self._projected(given), given),
            "downwardAPI": lambda name, given: self._files(name, self._downward(given), given),
            "emptyDir": lambda name, given: self._made(self._folder / "volumes" / name),
            "hostPath": lambda name, given: self._host(given),
            "persistentVolumeClaim": lambda name, given: self._made(self._node.parent / "claims" / self._space / given["claimName"]),
        }

    def make(self) -> dict[str, Path]:
        """The pod's volumes by name.  Raises NotYet, NotImplementedError for a kind that is not known here."""
        return {volume["name"]: self._volume(volume) for volume in self._pod["spec"].get("volumes", ())}

    def environment(self, container: Object, addresses: Mapping[str, str]) -> dict[str, str]:
        """addresses: status.podIP and the like.  Raises NotYet."""
        found: dict[str, str] = {}
        for source in container.get("envFrom", ()):
            files = self._secret(source["secretRef"]) if "secretRef" in source else self._config(source["configMapRef"])
            found |= {source.get("prefix", "") + key: value.decode() for key, value in files.items()}
        for one in container.get("env", ()):
            value = self._referred(one["valueFrom"], addresses) if "valueFrom" in one else expand(one.get("value", ""), found)
            if value is not None:
                found[one["name"]] = value
        return found

    # ── kinds ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _volume(self, volume: Object) -> Path:
        kind = next(key for key in volume if key != "name")
        if kind not in self._kinds:
            raise NotImplementedError(f"volume {volume['name']}: {kind}")
        return self._kinds[kind](volume["name"], volume[kind])

    def _host(self, given: Object) -> Path:
        path = given["path"]
        if path.startswith("/sys/fs/bpf"):
            return self._made(self._bpf / path.removeprefix("/sys/fs/bpf").strip("/"))
        return Path(path) if path.startswith(_SHARED) else self._made(self._node / path.strip("/"))

    def _made(self, path: Path) -> Path:
        path.mkdir(parents=True, exist_ok=True)
        group = self._pod["spec"].get("securityContext", {}).get("fsGroup")
        if group is not None:
            shutil.chown(path, group=group)
            path.chmod(0o2775)
        elif "claims" in path.parts or "volumes" in path.parts:
            path.chmod(0o777)
        return path

    def _files(self, name: str, files: Files, given: Object) -> Path:
        folder = self._made(self._folder / "volumes" / name)
        group = self._pod["spec"].get("securityContext", {}).get("fsGroup", -1)
        mode = given.get("defaultMode", 0o644) | (0o440 if group >= 0 else 0)
        for key, value in files.items():
            path = folder / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(value)
            path.chmod(mode)
            os.chown(path, -1, group)
        return folder

    def _projected(self, given: Object) -> Files:
        readers: dict[str, Callable[[Any], Files]] = {
            "secret": self._secret,
            "configMap": self._config,
            "downwardAPI": self._downward,
            "serviceAccountToken": self._token,
        }
        files: Files = {}
        for source in given["sources"]:
            for kind, wanted in source.items():
                files |= readers[kind](wanted)
        return files

    def _token(self, given: Object) -> Files:
        account = self._pod["spec"].get("serviceAccountName", "default")
        bound = {"kind": "Pod", "apiVersion": "v1", "name": self._pod["metadata"]["name"], "uid": self._pod["metadata"]["uid"]}
        spec = {"expirationSeconds": given.get("expirationSeconds", 3600), "boundObjectRef": bound}
        if audience := given.get("audience"):
            spec["audiences"] = [audience]
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        answer = self._api.post(f"/api/v1/namespaces/{self._space}/serviceaccounts/{account}/token", request)
        return {given["path"]: answer["status"]["token"].encode()}

    def _downward(self, given: Object) -> Files:
        return {item["path"]: self._field(item["fieldRef"]["fieldPath"], {}).encode() for item in given.get("items", ())}

    # ── objects ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _secret(self, given: Object, name: str = "") -> Files:
        found = self._object("secrets", name or given["name"], given)
        return _chosen({key: base64.b64decode(value) for key, value in (found.get("data") or {}).items()}, given)

    def _config(self, given: Object, name: str = "") -> Files:
        found = self._object("configmaps", name or given["name"], given)
        files = {key: value.encode() for key, value in (found.get("data") or {}).items()}
        return _chosen(files | {key: base64.b64decode(value) for key, value in (found.get("binaryData") or {}).items()}, given)

    def _object(self, plural: str, name: str, given: Object) -> Object:
        try:
            found: Object = self._api.get(f"/api/v1/namespaces/{self._space}/{plural}/{name}")
        except ApiError as error:
            if error.code != http.client.NOT_FOUND:
                raise
            if given.get("optional"):
                return {}
            raise NotYet(f"{plural} {self._space}/{name} not found") from error
        return found

    def _referred(self, source: Object, addresses: Mapping[str, str]) -> str | None:
        if "fieldRef" in source:
            return self._field(source["fieldRef"]["fieldPath"], addresses)
        kind, given = next(iter(source.items()))
        files = self._secret({**given, "items": None}) if kind == "secretKeyRef" else self._config({**given, "items": None})
        if given["key"] not in files and not given.get("optional"):
            raise NotYet(f"{kind} {given['name']}: no key {given['key']}")
        return files[given["key"]].decode() if given["key"] in files else None

    def _field(self, path: str, addresses: Mapping[str, str]) -> str:
        if path in addresses:
            return addresses[path]
        base, _, key = path.partition("[")
        value: Any = self._pod
        for part in base.split("."):
            value = value.get(part, {})
        if key:
            value = value.get(key.strip("]'\""), "")
        return value if isinstance(value, str) else "\n".join(f'{name}="{text}"' for name, text in sorted(value.items()))


def expand(text: str, environment: Mapping[str, str]) -> str:
    """`$(NAME)` by its value where it has one, `$$` by one."""
    return _EXPANDED.sub(lambda found: "$" if found[1] == "$" else environment.get(found[2], found[0]), text)


def _chosen(files: Files, given: Object) -> Files:
    items: Iterable[Object] | None = given.get("items")
    if not items:
        return files
    missing = [item["key"] for item in items if item["key"] not in files]
    if missing and not given.get("optional"):
        raise NotYet(f"no key {', '.join(missing)}")
    return {item["path"]: files[item["key"]] for item in items if item["key"] in files}

"""Where Secrets come from: manifests on this machine, or the Kubernetes API.

They are read where this node is about to use them, and go nowhere else: no event, log, metric or message has any of their content.
"""

import asyncio
import base64
import binascii
import contextlib
import json
import os
import ssl
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

import h11
import yaml

from weir.decider import World
from weir.events import HomeNamed
from weir.model import Owner

KUBERNETES = "kubernetes"
_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_PATIENCE_S = 5.0
_MOST_BYTES = 4 << 20
_NOT_FOUND = 404


Fields = Mapping[str, bytes]  # of one Secret, by name


class SecretError(Exception):
    """A Secret cannot be had; the message says why, and has nothing of it."""


class SecretSource(Protocol):
    """Where Secrets come from."""

    async def read(self, owner: str, home: str) -> Fields:
        """owner: "Secret/shop/cert", "Secret/east:shop/cert".   home: the cluster whose names have no prefix, "" for unknown.

        Raises SecretError.
        """


def home_of(world: World) -> str:
    """The home cluster, as `SecretSource.read` wants it."""
    return next((event.cluster for event in world.of(HomeNamed)), "")


class Nowhere:
    """No Secret can be had."""

    async def read(self, owner: str, _: str) -> Fields:
        raise SecretError(f"{owner}: this node reads no Secrets; start its agent with --secrets")


class KubeconfigError(Exception):
    """A kubeconfig cannot be used; the message says why, and has nothing of its content."""


class Reach(NamedTuple):
    """Where a Kubernetes API is, and as whom it is asked.  token: "" for none."""

    host: str
    port: int
    tls: ssl.SSLContext
    token: str


def source_of(words: Sequence[str]) -> SecretSource:
    """words: paths of manifests, `kubernetes[:NAME][=KUBECONFIG]`; without KUBECONFIG from within a pod, without NAME the home cluster."""
    named = [(word, *word.partition("=")[0].partition(":")[::2]) for word in words]
    paths = [Path(word) for word, head, _ in named if head != KUBERNETES]
    clusters = {name: Api(_kubeconfig(word)) for word, head, name in named if head == KUBERNETES}
    return Sources(Manifests(paths) if paths else None, clusters) if named else Nowhere()


def _kubeconfig(word: str) -> Path | None:
    path = word.partition("=")[2]
    return Path(path) if path else None


class Sources:
    """Manifests, which count before the home cluster, and clusters by name, "" for the home cluster.

    A Secret is read in its own cluster alone: that of another, of the same namespace and name, is somebody else's.
    """

    def __init__(self, manifests: "Manifests | None", clusters: Mapping[str, "Api"]) -> None:
        self._manifests, self._clusters = manifests, clusters

    async def read(self, owner: str, home: str) -> Fields:
        """Raises SecretError, of the last that could have it."""
        source = Owner.parse(owner).source
        cluster = self._clusters.get(source) if source else self._home(home)
        if self._manifests and not source:
            try:
                return await self._manifests.read(owner)
            except SecretError:
                if not cluster:
                    raise
        if not cluster:
            wanted = source or home
            raise SecretError(f"{owner}: " + (f"no --secrets names cluster {wanted}" if wanted else "the home cluster is not known yet"))
        return await cluster.read(owner)

    def _home(self, home: str) -> "Api | None":
        if len(self._clusters) == 1 and not home:
            return next(iter(self._clusters.values()))
        return self._clusters.get("") or self._clusters.get(home)


class Manifests:
    """Secrets in files and folders of manifests, as `weir up -f` follows them; the files are read when a Secret is."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths

    async def read(self, owner: str) -> Fields:
        """Raises SecretError."""
        return await asyncio.to_thread(self._read, owner)

    def _read(self, owner: str) -> Fields:
        wanted = Owner.parse(owner)
        for document in self._documents():
            metadata = document.get("metadata")
            if document.get("kind") != "Secret" or not isinstance(metadata, dict) or metadata.get("name") != wanted.name:
                continue
            if metadata.get("namespace", "default") == wanted.namespace:
                return _fields_of(document)
        raise SecretError(f"{owner}: not found")

    def _documents(self) -> Iterator[Mapping[str, object]]:
        for path in self._files():
            try:
                documents = list(yaml.load_all(path.read_bytes(), yaml.CSafeLoader))
            except (OSError, yaml.YAMLError):  # the watcher reports it
                continue
            for document in documents:
                if isinstance(document, dict):
                    items = document.get("items") if document.get("kind") == "List" else None
                    yield from (item for item in (items or [document]) if isinstance(item, dict))

    def _files(self) -> Iterator[Path]:
        for path in self._paths:
            found = path.rglob("*") if path.is_dir() else (path,)
            yield from sorted(each for each in found if each.suffix in (".yaml", ".yml", ".json") and each.is_file())


class Api:
    """Secrets of a cluster, each asked for by its name.  kubeconfig: None for the cluster that this pod runs in."""

    def __init__(self, kubeconfig: Path | None = None) -> None:
        self._kubeconfig = kubeconfig

    async def read(self, owner: str) -> Fields:
        """Raises SecretError."""
        wanted = Owner.parse(owner)
        try:
            async with asyncio.timeout(_PATIENCE_S):
                status, body = await _get(reach(self._kubeconfig), f"/api/v1/namespaces/{wanted.namespace}/secrets/{wanted.name}")
        except (OSError, TimeoutError, ssl.SSLError, h11.RemoteProtocolError, KubeconfigError) as error:
            raise SecretError(f"{owner}: the Kubernetes API does not answer: {error or type(error).__name__}") from None
        if status == _NOT_FOUND:
            raise SecretError(f"{owner}: not found")
        if status >= 300:
            raise SecretError(f"{owner}: the Kubernetes API answers {status}")
        try:
            document = json.loads(body)
        except ValueError:
            raise SecretError(f"{owner}: the Kubernetes API answers no JSON") from None
        return _fields_of(document)


def _fields_of(document: Mapping[str, object]) -> Fields:
    """What stands as text counts before what is encoded, as the API server takes it."""
    return {name: value for part in ("data", "stringData") for name, value in _fields(document, part)}


def _fields(document: Mapping[str, object], part: str) -> Iterator[tuple[str, bytes]]:
    held = document.get(part)
    for name, value in held.items() if isinstance(held, dict) else ():
        if isinstance(name, str) and isinstance(value, str):
            try:
                yield name, value.encode() if part == "stringData" else base64.b64decode(value, validate=False)
            except (binascii.Error, ValueError):
                continue


def reach(kubeconfig: Path | None) -> Reach:
    """How the API of a kubeconfig's current context, or of this pod's cluster, is reached.  Raises OSError, KubeconfigError."""
    if kubeconfig is None:
        host, port = os.environ.get("KUBERNETES_SERVICE_HOST", ""), int(os.environ.get("KUBERNETES_SERVICE_PORT", "443"))
        return Reach(host, port, ssl.create_default_context(cafile=str(_ACCOUNT / "ca.crt")), (_ACCOUNT / "token").read_text().strip())
    try:
        config = yaml.load(kubeconfig.read_bytes(), yaml.CSafeLoader)
        context = _of_name(config, "context", config["current-context"])
        server, user = _of_name(config, "cluster", context["cluster"]), _of_name(config, "user", context["user"])
        url = urlsplit(server["server"])
        tls = ssl.create_default_context(cadata=(_content(kubeconfig, server, "certificate-authority") or b"").decode() or None)
        if certificate := _content(kubeconfig, user, "client-certificate"):
            with _file(certificate + b"\n" + (_content(kubeconfig, user, "client-key") or b"")) as path:
                tls.load_cert_chain(path)
        token = user.get("token") or (_content(kubeconfig, user, "token", "tokenFile") or b"").decode().strip()
    except (yaml.YAMLError, KeyError, TypeError, StopIteration, ValueError) as error:
        raise KubeconfigError(f"{kubeconfig}: not a kubeconfig with a current context ({type(error).__name__})") from None
    return Reach(url.hostname or "", url.port or 443, tls, token)


def _of_name(config: Mapping[str, Any], kind: str, name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = next(one[kind] for one in config[f"{kind}s"] if one["name"] == name)
    return found


def _content(kubeconfig: Path, part: Mapping[str, Any], name: str, file: str = "") -> bytes | None:
    """Of NAME-data, or of the file that NAME has the path of, relative to the kubeconfig."""
    if encoded := part.get(f"{name}-data"):
        return base64.b64decode(encoded)
    path = part.get(file or name)
    return (kubeconfig.parent / path).read_bytes() if path else None


@contextlib.contextmanager
def _file(content: bytes) -> Iterator[str]:
    """The path of a file in memory."""
    with os.fdopen(os.memfd_create("kubeconfig"), "wb") as file:
        file.write(content)
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}"


async def _get(at: Reach, path: str) -> tuple[int, bytes]:
    reader, writer = await asyncio.open_connection(at.host, at.port, ssl=at.tls)
    try:
        connection = h11.Connection(h11.CLIENT)
        headers = [("Host", at.host), ("Accept", "application/json"), ("Connection", "close")]
        headers += [("Authorization", f"Bearer {at.token}")] if at.token else []
        writer.write(
            (connection.send(h11.Request(method="GET", target=path, headers=headers)) or b"") + (connection.send(h11.EndOfMessage()) or b"")
        )
        status, body = 0, bytearray()
        while True:
            match connection.next_event():
                case h11.NEED_DATA:
                    connection.receive_data(await reader.read(1 << 16))
                case h11.Response(status_code=code):
                    status = code
                case h11.Data(data=data):
                    body += data
                    if len(body) > _MOST_BYTES:
                        raise OSError(f"an answer of more than {_MOST_BYTES} bytes")
                case h11.EndOfMessage():
                    return status, bytes(body)
                case h11.ConnectionClosed():
                    raise ConnectionResetError("closed without an answer")
    finally:
        writer.close()

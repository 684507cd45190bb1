"""A small client of a Kubernetes API server: JSON in, JSON out, one connection per thread, nothing hidden and nothing retried."""

import http.client
import json
import ssl
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

import yaml

Object = dict[str, Any]
TIMEOUT_S = 30


class ApiError(Exception):
    """The server said no.  code: of HTTP; reason and message: of its Status."""

    def __init__(self, method: str, path: str, code: int, body: bytes) -> None:
        try:
            status = json.loads(body)
        except ValueError:
            status = {"message": body.decode(errors="replace")}
        self.code, self.reason, self.message = code, status.get("reason", ""), status.get("message", "")
        super().__init__(f"{method} {path}: {code} {self.message}")


class Api:
    """One user at one server."""

    def __init__(self, url: str, authority: str, token: str, timeout_s: float = TIMEOUT_S) -> None:
        """authority: of the server's certificate, PEM.   timeout_s: of one request; watches have none."""
        self.url, self._token, self._timeout_s = url, token, timeout_s
        self._tls = ssl.create_default_context(cadata=authority)
        self._local = threading.local()
        self._paths: dict[tuple[str, str], tuple[str, bool]] = {}

    @classmethod
    def of(cls, kubeconfig: Path) -> Self:
        """As whom the file says; one cluster, one user, a token."""
        config = yaml.safe_load(kubeconfig.read_text())
        server, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        return cls(server["server"], Path(server["certificate-authority"]).read_text(), user["token"])

    # ── requests ───────────────────────────────────────────────────────────────────────────────────────────────────

    def get(self, path: str, **query: str) -> Any:
        return self.request("GET", path, query=query)

    def items(self, path: str, **query: str) -> list[Object]:
        """Of a list."""
        found: list[Object] = self.get(path, **query)["items"]
        return found

    def post(self, path: str, body: Object) -> Any:
        return self.request("POST", path, body)

    def put(self, path: str, body: Object) -> Any:
        return self.request("PUT", path, body)

    def patch(self, path: str, body: Any, kind: str = "merge-patch", **query: str) -> Any:
        """kind: merge-patch, strategic-merge-patch, json-patch, apply-patch."""
        return self.request("PATCH", path, body, kind=f"application/{kind}+{'yaml' if kind == 'apply-patch' else 'json'}", query=query)

    def delete(self, path: str, body: Object | None = None) -> Any:
        return self.request("DELETE", path, body)

    def request(
        self, method: str, path: str, body: Any = None, *, kind: str = "application/json", query: dict[str, str] | None = None
    ) -> Any:
        """The decoded answer; text where it is no JSON.  Raises ApiError, OSError."""
        full = f"{path}?{urlencode(query)}" if query else path
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": kind, "Accept": "application/json"}
        content = None if body is None else json.dumps(body).encode()
        answer = self._answer(method, full, content, headers)
        raw = answer.read()
        if answer.status >= 400:
            raise ApiError(method, full, answer.status, raw)
        return json.loads(raw) if answer.getheader("Content-Type", "").startswith("application/json") else raw.decode()

    def watch(self, path: str, version: str, **query: str) -> Iterator[Object]:
        """Watch events after a resource version, until the server ends the stream.  Raises ApiError, OSError (with it TimeoutError)."""
        connection = self._connect(timeout_s=330)
        try:
            full = f"{path}?{urlencode({**query, 'watch': 'true', 'resourceVersion': version, 'timeoutSeconds': '300'})}"
            connection.request("GET", full, headers={"Authorization": f"Bearer {self._token}"})
            answer = connection.getresponse()
            if answer.status >= 400:
                raise ApiError("GET", full, answer.status, answer.read())
            for line in answer:
                yield json.loads(line)
        finally:
            connection.close()

    # ── objects ────────────────────────────────────────────────────────────────────────────────────────────────────

    def apply(self, *manifests: str | Object) -> list[Object]:
        """Server-side apply of YAML texts or objects, forced; namespaces must exist.  Returns the objects as they are now."""
        return [self._apply(found) for text in manifests for found in _documents(text)]

    def path(self, found: Object) -> str:
        """Where an object lives, from its apiVersion, kind, namespace (`default` where it names none) and name."""
        meta = found["metadata"]
        base, namespaced = self._resource(found["apiVersion"], found["kind"])
        place = f"/namespaces/{meta.get('namespace', 'default')}" if namespaced else ""
        group, _, plural = base.rpartition("/")
        return f"{group}{place}/{plural}/{meta['name']}"

    def remove(self, *manifests: str | Object) -> None:
        """Deletes what `apply` made; what is gone already is passed over."""
        for found in (found for text in manifests for found in _documents(text)):
            try:
                self.delete(self.path(found))
            except ApiError as error:
                if error.code != http.client.NOT_FOUND:
                    raise

    def _apply(self, found: Object) -> Object:
        done: Object = self.patch(self.path(found), found, "apply-patch", fieldManager="test", force="true")
        return done

    def _resource(self, version: str, kind: str) -> tuple[str, bool]:
        """Path of a kind's list, and whether it is namespaced; asked of the server once."""
        if (version, kind) not in self._paths:
            root = f"/apis/{version}" if "/" in version else f"/api/{version}"
            for known in self.get(root)["resources"]:
                if "/" not in known["name"]:
                    self._paths[version, known["kind"]] = f"{root}/{known['name']}", known["namespaced"]
        return self._paths[version, kind]

    # ── connections ────────────────────────────────────────────────────────────────────────────────────────────────

    def _answer(self, method: str, path: str, content: bytes | None, headers: dict[str, str]) -> http.client.HTTPResponse:
        """A connection that was idle may be dead, which shows only now: a request that it did not take goes out once more."""
        connection: http.client.HTTPSConnection | None = getattr(self._local, "connection", None)
        if connection:
            try:
                connection.request(method, path, content, headers)
                return connection.getresponse()
            except (ConnectionError, http.client.BadStatusLine, http.client.CannotSendRequest, ssl.SSLError):
                connection.close()
        self._local.connection = connection = self._connect(self._timeout_s)
        connection.request(method, path, content, headers)
        return connection.getresponse()

    def _connect(self, timeout_s: float) -> http.client.HTTPSConnection:
        place = urlsplit(self.url)
        assert place.hostname
        return http.client.HTTPSConnection(place.hostname, place.port, context=self._tls, timeout=timeout_s)


def _documents(manifest: str | Object) -> Iterable[Object]:
    """Lists are taken apart."""
    found = [manifest] if isinstance(manifest, dict) else [one for one in yaml.safe_load_all(manifest) if one]
    for one in found:
        yield from one["items"] if one["kind"].endswith("List") and "items" in one else (one,)

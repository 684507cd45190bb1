"""One Kubernetes API server: requests and watches in raw bytes.

kubernetes-asyncio does configuration, credentials, TLS and transport; its models and its own watch are not used (they take 45
times as long as msgspec for a slice, and resume an expired watch at the version that expired).
"""

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec
import yaml

from services.watcher.sources.client import ApiClient, ConfigException, Configuration, load_incluster_config, load_kube_config

MANAGER: Final = "weir"  # the field manager: what it has applied is Weir's, all else is others'
CONNECT_S: Final = 5
ANSWER_S: Final = 30
WATCH_S: Final = 290  # then the server closes it, and it resumes where it ended
SILENCE_S: Final = 90  # servers send a bookmark each minute
DEAD_S: Final = 10  # a peer that does not even acknowledge is gone
CONNECTIONS: Final = 32
MOST_LINE_BYTES: Final = 8 << 20
_JSON: Final = "application/json"
_APPLY: Final = "application/apply-patch+yaml"  # JSON is YAML

UNREACHABLE: Final = (aiohttp.ClientError, asyncio.TimeoutError, OSError)


class ApiError(Exception):
    """The server refused a request: its code, its reason in CamelCase, its message."""

    def __init__(self, code: int, reason: str, words: str) -> None:
        super().__init__(f"{code} {reason}: {words}")
        self.code, self.reason = code, reason
        self.forbidden = code == 401 or (code == 403 and " cannot " in words)  # by rights, and not by the state of its namespace


class ConfigError(Exception):
    """The kubeconfig, or the pod's service account, cannot be used; the message says why."""


class _Status(msgspec.Struct):
    """meta/v1 Status, as errors come."""

    message: str = ""
    reason: str = ""
    code: int = 0


_STATUS: Final = msgspec.json.Decoder(_Status).decode


async def configured(kubeconfig: Path | None) -> Configuration:
    """kubeconfig: None in a pod.  Raises ConfigError."""
    configuration = Configuration()
    try:
        if kubeconfig:
            await load_kube_config(str(kubeconfig), client_configuration=configuration, persist_config=False)
        else:
            load_incluster_config(configuration)
    except yaml.YAMLError as error:  # its message may quote a token
        mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(f"{kubeconfig}: malformed YAML{where}") from None
    except (ConfigException, OSError, ValueError, TypeError, LookupError, AttributeError) as error:  # or half-written
        raise ConfigError(f"{kubeconfig or 'service account of this pod'}: {error}") from error
    configuration.connection_pool_maxsize = CONNECTIONS
    return configuration


class Api:
    """A connection pool to one API server; to be made in the loop that uses it."""

    def __init__(self, configuration: Configuration) -> None:
        self._client = ApiClient(configuration)

    def use(self, configuration: Configuration) -> None:
        """Other credentials from now on; certificates are taken at the start alone."""
        self._client.configuration.api_key = configuration.api_key

    async def get(self, path: str, **query: str | int) -> bytes:
        """The body.  Raises ApiError, or one of UNREACHABLE."""
        return await self._ask("GET", path, query)

    async def apply(self, path: str, body: Mapping[str, Any]) -> bytes:
        """Server-side apply of exactly the fields in `body`: fields applied before and absent now are removed, others' are not touched."""
        return await self._ask("PATCH", path, {"fieldManager": MANAGER, "force": "true"}, body, _APPLY)

    async def create(self, path: str, body: Mapping[str, Any]) -> bytes:
        """A new object."""
        return await self._ask("POST", path, {"fieldManager": MANAGER}, body)

    async def merge(self, path: str, body: Mapping[str, Any]) -> bytes:
        """A JSON merge patch (RFC 7386)."""
        return await self._ask("PATCH", path, {"fieldManager": MANAGER}, body, "application/merge-patch+json")

    async def delete(self, path: str) -> bytes:
        """Deletes the object."""
        return await self._ask("DELETE", path, {})

    async def watch(self, path: str, version: str) -> AsyncIterator[bytes]:
        """Lines, each a watch event, from after `version` on, until the server ends it; an empty one first, once it is open.

        Raises ApiError, or one of UNREACHABLE.
        """
        query = {"watch": "1", "allowWatchBookmarks": "true", "resourceVersion": version}
        query["timeoutSeconds"] = str(int(WATCH_S * random.uniform(0.8, 1.0)))  # watches opened together do not end together
        timeout = aiohttp.ClientTimeout(connect=CONNECT_S, sock_connect=CONNECT_S, sock_read=SILENCE_S)
        response = await self._send("GET", path, query, None, _JSON, timeout)
        try:
            if response.status != 200:
                raise _error(response.status, await response.read())
            _mortal(response)
            yield b""
            rest = b""
            async for chunk in response.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                if len(rest) > MOST_LINE_BYTES:
                    raise ApiError(200, "TooLarge", f"a watch event beyond {MOST_LINE_BYTES} bytes")
                for line in lines:
                    if line:
                        yield line
        finally:
            response.close()

    async def _ask(
        self, method: str, path: str, query: Mapping[str, str | int], body: Mapping[str, Any] | None = None, content: str = _JSON
    ) -> bytes:
        timeout = aiohttp.ClientTimeout(total=ANSWER_S, connect=CONNECT_S, sock_connect=CONNECT_S)
        response = await self._send(method, path, query, body, content, timeout)
        async with response:
            answer: bytes = await response.read()
        if response.status >= 300:
            raise _error(response.status, answer)
        return answer

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str | int],
        body: Mapping[str, Any] | None,
        content: str,
        timeout: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        try:
            return await self._client.call_api(
                path,
                method,
                query_params=list(query.items()),
                header_params={"Content-Type": content, "Accept": _JSON},
                body=body,
                auth_settings=["BearerToken"],
                _preload_content=False,
                _request_timeout=timeout,
            )
        except ConfigException as error:  # the pod's token is being replaced
            raise aiohttp.ClientError(str(error)) from error


def _error(code: int, body: bytes) -> ApiError:
    try:
        status = _STATUS(body)
    except msgspec.MsgspecError:  # a proxy's page
        return ApiError(code, "", body[:200].decode(errors="replace"))
    return ApiError(status.code or code, status.reason, status.message)


def _mortal(response: aiohttp.ClientResponse) -> None:
    """Let the kernel end a connection whose peer has vanished: a watch sends nothing, and would wait indefinitely."""
    transport = response.connection.transport if response.connection else None
    raw = transport.get_extra_info("socket") if transport else None
    if raw is None:  # already ended
        return
    for option, value in ((socket.TCP_KEEPIDLE, 5), (socket.TCP_KEEPINTVL, 2), (socket.TCP_KEEPCNT, 2)):
        raw.setsockopt(socket.IPPROTO_TCP, option, value)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_S * 1000)

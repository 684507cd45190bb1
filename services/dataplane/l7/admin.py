"""Envoy's admin interface on its unix socket: which version of each file it took, and what it refused."""

import asyncio
import re
from collections.abc import Iterable
from http import HTTPStatus
from urllib.parse import quote

import h11
import msgspec

from services.dataplane.l7.judge import NoEnvoy

_PATIENCE_S = 5.0
_FEW = 20  # names that a filter spells out
_READ_BYTES = 1 << 16


class Admin:
    """One connection, kept open.   life: changes when Envoy, or this connection to it, begins again: its counters may start from 0."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.life = 0

    async def get(self, target: str) -> bytes:
        """Raises NoEnvoy where it does not answer."""
        try:
            async with asyncio.timeout(_PATIENCE_S):
                if not self._streams:
                    self._streams = await asyncio.open_unix_connection(self._path)
                    self.life += 1
                return await self._ask(*self._streams, target)
        except (OSError, TimeoutError, h11.RemoteProtocolError, EOFError) as error:
            self.close()
            raise NoEnvoy(f"{self._path}: {error or type(error).__name__}") from error

    def close(self) -> None:
        """The next question opens a connection again."""
        if self._streams:
            self._streams[1].close()
        self._streams = None

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: str) -> bytes:
        connection = h11.Connection(h11.CLIENT)
        writer.write(connection.send(h11.Request(method="GET", target=target, headers=[("Host", "envoy")])) or b"")
        writer.write(connection.send(h11.EndOfMessage()) or b"")
        body, status = bytearray(), 0
        while True:
            match connection.next_event():
                case h11.NEED_DATA:
                    received = await reader.read(_READ_BYTES)
                    if not received:
                        raise EOFError("closed by Envoy")
                    connection.receive_data(received)
                case h11.Response(status_code=code):
                    status = code
                case h11.Data(data=data):
                    body += data
                case h11.EndOfMessage():
                    if status != HTTPStatus.OK:
                        raise NoEnvoy(f"{self._path}: {target}: HTTP {status}")
                    return bytes(body)

    async def versions(self, stats: Iterable[str]) -> dict[str, str]:
        """The version that Envoy took last, by the prefix of its statistics; those without one are left out."""
        wanted = [f"{stat}.version_text" for stat in stats]
        text = await self.get(f"/stats?type=TextReadouts&filter={_filter(wanted, 'version_text$')}")
        found = (line.partition(": ") for line in text.decode().splitlines())
        return {name.removesuffix(".version_text"): value.strip('"') for name, _, value in found if name in set(wanted)}

    async def refusals(self, stats: Iterable[str]) -> dict[str, int]:
        """How many versions Envoy refused, or could not read, by the prefix of its statistics."""
        wanted = {f"{stat}.{what}": stat for stat in stats for what in ("update_rejected", "update_failure")}
        text = await self.get(f"/stats?type=Counters&filter={_filter(list(wanted), r'update_(rejected|failure)$')}")
        counts = dict.fromkeys(wanted.values(), 0)
        for line in text.decode().splitlines():
            name, _, value = line.partition(": ")
            if name in wanted:
                counts[wanted[name]] += int(value)
        return counts

    async def refused_listeners(self) -> dict[str, str]:
        """What Envoy says of each listener that it did not take, such as an address in use."""
        text = await self.get("/config_dump?resource=dynamic_listeners&mask=name,error_state.details")
        configs = msgspec.json.decode(text, type=_Dump).configs
        return {each.name: each.error_state.details for each in configs if each.name and each.error_state}


class _Error(msgspec.Struct):
    details: str = ""


class _Listener(msgspec.Struct):
    name: str = ""
    error_state: _Error | None = None


class _Dump(msgspec.Struct):
    configs: list[_Listener] = []


def _filter(names: list[str], general: str) -> str:
    """A regular expression of Envoy's for the names of statistics."""
    return quote("|".join(f"^{re.escape(name)}$" for name in names) if len(names) <= _FEW else general, safe="")


def stat(prefix: str, name: str = "") -> str:
    """The statistics of a subscription, as Envoy names them."""
    name = name.replace(":", "_")
    match prefix:
        case "lds":
            return "listener_manager.lds"
        case "cds":
            return "cluster_manager.cds"
        case "rds":
            return f"http.{name}.rds.{name}"
        case "eds":
            return f"cluster.{name}"
    return f"{prefix}.{name}"

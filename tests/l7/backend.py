"""A backend of tests: answers every HTTP/1.1 request with what it saw of it, as JSON, and WebSocket upgrades with an echo.

Paths: /status/503 answers that, /delay/500 waits so many milliseconds first, /fail/2/KEY answers 503 twice for KEY, then 200.
"""

import asyncio
import base64
import contextlib
import hashlib
import ssl
import sys
from collections import Counter
from typing import Self

import h11
import msgspec

_WEBSOCKET = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Backend:
    """Serves while it is entered; `requests` are those it got."""

    def __init__(self, name: str, address: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        self.name, self.address, self.port, self._tls = name, address, port, tls
        self.requests: list[dict[str, object]] = []
        self._asked = Counter[str]()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, self.address, self.port, ssl=self._tls)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER)
        request = None
        try:
            while True:
                event = connection.next_event()
                if event is h11.NEED_DATA:
                    connection.receive_data(await reader.read(65536))
                elif isinstance(event, h11.Request):
                    request = event
                elif isinstance(event, h11.EndOfMessage):
                    assert request
                    if any(name == b"upgrade" for name, _ in request.headers):
                        await self._websocket(request, reader, writer)
                        return
                    writer.write(await self._answer(connection, request))
                    await writer.drain()
                    if connection.our_state is not h11.DONE:
                        return
                    connection.start_next_cycle()
                elif isinstance(event, h11.ConnectionClosed):
                    return
        except (ConnectionError, h11.ProtocolError, asyncio.CancelledError):
            return
        finally:
            writer.close()

    async def _answer(self, connection: h11.Connection, request: h11.Request) -> bytes:
        target = request.target.decode()
        words = target.partition("?")[0].split("/")[1:]
        status = 200
        match words:
            case ["status", code]:
                status = int(code)
            case ["delay", ms]:
                await asyncio.sleep(int(ms) / 1000)
            case ["fail", times, key]:
                self._asked[key] += 1
                status = 200 if self._asked[key] > int(times) else 503
        headers = {name.decode(): value.decode() for name, value in request.headers}
        seen = {"backend": self.name, "method": request.method.decode(), "target": target, "headers": headers}
        self.requests.append(seen)
        body = msgspec.json.encode(seen)
        head = h11.Response(status_code=status, headers=[("Content-Length", str(len(body))), ("Content-Type", "application/json")])
        parts = [connection.send(head), connection.send(h11.Data(data=body)), connection.send(h11.EndOfMessage())]
        return b"".join(part or b"" for part in parts)

    async def _websocket(self, request: h11.Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        key = next(value for name, value in request.headers if name == b"sec-websocket-key")
        accept = base64.b64encode(hashlib.sha1(key + _WEBSOCKET).digest())
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
        writer.write(b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")
        while data := await reader.read(65536):
            writer.write(data)


async def ask(
    address: str,
    port: int,
    path: str = "/",
    host: str = "www.example.com",
    headers: tuple[tuple[str, str], ...] = (),
    method: str = "GET",
    tls: ssl.SSLContext | None = None,
    server_name: str = "",
) -> "Answer":
    """One request on a connection of its own.  Raises OSError, or ssl.SSLError."""
    opened = asyncio.open_connection(address, port, ssl=tls, server_hostname=(server_name or host) if tls else None)
    reader, writer = await asyncio.wait_for(opened, 5)
    try:
        connection = h11.Connection(h11.CLIENT)
        request = h11.Request(method=method, target=path, headers=[("Host", host), ("Connection", "close"), *headers])
        writer.write((connection.send(request) or b"") + (connection.send(h11.EndOfMessage()) or b""))
        head, body = None, bytearray()
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await asyncio.wait_for(reader.read(65536), 10))
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                assert head
                return Answer(head.status_code, {name.decode(): value.decode() for name, value in head.headers}, bytes(body))
            elif isinstance(event, h11.ConnectionClosed):
                raise ConnectionResetError("closed without an answer")
    except h11.RemoteProtocolError as error:
        raise ConnectionResetError(str(error)) from error
    finally:
        writer.close()


class Answer(msgspec.Struct):
    """seen: what the backend saw of the request."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def backend(self) -> str:
        return str(self.seen["backend"])

    @property
    def seen(self) -> dict[str, object]:
        return msgspec.json.decode(self.body, type=dict[str, object])

    def header(self, name: str) -> str | None:
        """As the backend saw it."""
        headers = self.seen["headers"]
        assert isinstance(headers, dict)
        return headers.get(name)


async def _serve_all(address: str, named: list[str]) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for each in named:
            name, _, port = each.partition("=")
            await stack.enter_async_context(Backend(name, address, int(port)))
        print("listening", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":  # python -m tests.l7.backend ADDRESS NAME=PORT ...
    asyncio.run(_serve_all(sys.argv[1], sys.argv[2:]))

"""The HTTP of a probe, without a socket: the request, and the verdict on the bytes received so far.  h11 parses the response.

A status of 200 to 399 is good, as for the probes of Kubernetes; redirects are not followed.  Nothing a server sends raises here.
"""

import re

import h11

from services.health.core import Target
from weir.model import Probe

HEAD_MOST, BODY_MOST = 16_384, 4_096  # bytes looked at
ANSWER_MOST = HEAD_MOST + 4 * BODY_MOST  # bytes read, including the sizes of chunks
INTERIM_MOST = 4
_STATUS_BYTES = len("HTTP/1.1 200 ")
_STATUS = re.compile(rb"HTTP/\d\.\d \d{3}[ \r\n]")
_DEFAULT_PORT = {"http": 80, "https": 443}
_GET = h11.Request(method="GET", target="/", headers=[("Host", "")])  # h11 reads the response to any GET alike
_FAULT_MOST = 80
_UNFINISHED = "closed before an answer"


def misfit(probe: Probe) -> str:
    """Return why `probe` cannot be written as a request, "" if it can: nothing in it may end a line or a word early."""
    for name, word in (("path", probe.path), ("host", probe.host)):
        if not word.isascii() or not word.isprintable() or " " in word:
            return f"{name} {word!a} has characters that a request cannot carry"
    return "" if probe.path.startswith("/") else f"path {probe.path!a} does not begin with /"


def port_of(target: Target, probe: Probe) -> int:
    """Return the port to probe for `target`."""
    return probe.port or target.port


def request(target: Target, probe: Probe) -> bytes:
    """Build one GET that asks the server to close.  `probe` must not be a `misfit`."""
    address, port = f"[{target.address}]" if ":" in target.address else target.address, port_of(target, probe)
    host = probe.host or (address if port == _DEFAULT_PORT[probe.kind] else f"{address}:{port}")
    lines = (f"GET {probe.path} HTTP/1.1", f"Host: {host}", "User-Agent: weir", "Accept: */*", "Connection: close", "", "")
    return "\r\n".join(lines).encode()


def server_name(probe: Probe) -> str | None:
    """Return the name for TLS (SNI, RFC 6066 section 3: never an address or a port); None: send none."""
    name, _, port = probe.host.partition(":")
    return name if re.search("[a-zA-Z]", name) and ":" not in port else None


def judge(received: bytes, expect: str, *, ended: bool) -> str | None:
    """Return "" for a good response, else what is wrong with it; None while more must arrive.  ended: nothing more will."""
    if len(received) < _STATUS_BYTES:
        return _UNFINISHED if ended else None
    if not _STATUS.match(received):
        return f"no HTTP but {ascii(received[:_STATUS_BYTES])[1:]}"
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_MOST)
    connection.send(_GET)
    connection.send(h11.EndOfMessage())
    connection.receive_data(received)
    try:
        fault = _head(connection)
    except h11.RemoteProtocolError as error:
        too_long = error.error_status_hint == 431
        return f"no end of the header in {HEAD_MOST} bytes" if too_long else f"no valid HTTP: {_words(error)}"
    if fault is None:
        return _UNFINISHED if ended else None
    return fault or (_expected(connection, expect, ended=ended) if expect else "")


def _head(connection: h11.Connection) -> str | None:
    """Return as `judge` does, by the head alone."""
    interim = 0
    while isinstance(event := connection.next_event(), h11.InformationalResponse):  # RFC 9110, section 15.2
        interim += 1
        if interim > INTERIM_MOST:
            return f"more than {INTERIM_MOST} interim answers"
    if not isinstance(event, h11.Response):
        return None
    return f"status {event.status_code}" if event.status_code >= 400 else ""


def _expected(connection: h11.Connection, expect: str, *, ended: bool) -> str | None:
    body = b""
    try:
        while isinstance(event := connection.next_event(), h11.Data):
            body += event.data
    except h11.RemoteProtocolError:
        ended = True  # what is left cannot be read
    if expect.encode() in body[:BODY_MOST]:
        return ""
    over = ended or isinstance(event, h11.EndOfMessage) or len(body) >= BODY_MOST
    return f"{expect[:40]!a} is not in the answer" if over else None


def _words(error: h11.RemoteProtocolError) -> str:
    """Of h11's message without the bytes that it quotes."""
    return str(error).partition(": bytearray")[0][:_FAULT_MOST]

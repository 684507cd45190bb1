"""The words of an HTTP probe, without a socket: the request, and what the bytes received so far amount to.

A status of 200 to 399 is good, as for the probes of Kubernetes; a redirect is not followed.  Nothing a server sends raises here.
"""

import re

from services.health.core import Target
from weir.model import Probe

HEAD_MOST, BODY_MOST = 16_384, 4_096  # bytes looked at
ANSWER_MOST = HEAD_MOST + 4 * BODY_MOST  # bytes read, the sizes of chunks among them
INTERIM_MOST = 4
_STATUS_BYTES = len("HTTP/1.1 200 ")
_STATUS = re.compile(rb"HTTP/\d\.\d (\d{3})[ \r\n]")
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_CHUNKED = re.compile(rb"\ntransfer-encoding:[^\n]*\bchunked\b", re.IGNORECASE)
_CHUNK = re.compile(rb"([0-9a-fA-F]{1,8})[^\n]*\n")
_DEFAULT_PORT = {"http": 80, "https": 443}


def misfit(probe: Probe) -> str:
    """Why `probe` cannot be put into a request, "" where it can: nothing in it may end a line or a word early."""
    for name, word in (("path", probe.path), ("host", probe.host)):
        if not word.isascii() or not word.isprintable() or " " in word:
            return f"{name} {word!a} holds what no request may"
    return "" if probe.path.startswith("/") else f"path {probe.path!a} does not begin with /"


def port_of(target: Target, probe: Probe) -> int:
    """The port that is asked on behalf of `target`."""
    return probe.port or target.port


def request(target: Target, probe: Probe) -> bytes:
    """One GET after which the server is to close.  `probe` must be no `misfit`."""
    address, port = f"[{target.address}]" if ":" in target.address else target.address, port_of(target, probe)
    host = probe.host or (address if port == _DEFAULT_PORT[probe.kind] else f"{address}:{port}")
    lines = (f"GET {probe.path} HTTP/1.1", f"Host: {host}", "User-Agent: weir", "Accept: */*", "Connection: close", "", "")
    return "\r\n".join(lines).encode()


def server_name(probe: Probe) -> str | None:
    """The name for TLS (SNI, RFC 6066 section 3: never an address or a port); None: send none."""
    name, _, port = probe.host.partition(":")
    return name if re.search("[a-zA-Z]", name) and ":" not in port else None


def judge(received: bytes, expect: str, *, ended: bool) -> str | None:
    """ "" for a good answer, else what is wrong with it; None while more must come.  ended: nothing more will."""
    interim = 0
    while (status := _STATUS.match(received)) and status[1] < b"200":  # a word on the way to the answer: RFC 9110, section 15.2
        interim += 1
        if interim > INTERIM_MOST:
            return f"more than {INTERIM_MOST} interim answers"
        if not (end := _HEAD_END.search(received)):
            return _unfinished(received, ended=ended)
        received = received[end.end() :]
    if not status:
        return _unfinished(received, ended=ended) if len(received) < _STATUS_BYTES else f"no HTTP but {ascii(received[:_STATUS_BYTES])[1:]}"
    if status[1] >= b"400":
        return f"status {status[1].decode()}"
    return _expected(received, expect, ended=ended) if expect else ""


def _expected(received: bytes, expect: str, *, ended: bool) -> str | None:
    if not (end := _HEAD_END.search(received)):
        return _unfinished(received, ended=ended)
    body = received[end.end() :]
    plain = _unchunked(body) if _CHUNKED.search(received, 0, end.end()) else body
    if expect.encode() in plain[:BODY_MOST]:
        return ""
    missing = f"{expect[:40]!a} is not in the answer"
    return missing if ended or len(plain) >= BODY_MOST else None


def _unfinished(received: bytes, *, ended: bool) -> str | None:
    if len(received) >= HEAD_MOST:
        return f"no end of the header in {HEAD_MOST} bytes"
    if ended:
        return "closed before an answer"
    return None


def _unchunked(body: bytes) -> bytes:
    """What the chunks of `body` hold as far as they have come (RFC 9112, section 7.1)."""
    plain, at = b"", 0
    while (size := _CHUNK.match(body, at)) and int(size[1], 16):
        plain += body[size.end() : size.end() + int(size[1], 16)]
        at = size.end() + int(size[1], 16) + 2
    return plain

"""The cluster's names for pods: a DNS server beside the API server for `SERVICE.NAMESPACE.svc.cluster.local`, A and AAAA, and nothing else.

It asks the API for each name anew, and tells what it last heard where that does not answer: pods find each other without it too.
"""

import contextlib
import http.client
import ipaddress
import socket
import struct
import threading
from collections.abc import Callable

from tests.cluster.api import Api, ApiError, Object

PORT, TTL_S = 53, 1
SUFFIX = ".svc.cluster.local"
_A, _AAAA, _ANSWERED, _REFUSED_NAME = 1, 28, 0x8580, 0x8583
_POINTER = 0xC00C  # to the question's name


class Names:
    """What names stand for."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._known: dict[str, list[str] | None] = {}

    def addresses(self, name: str) -> list[str] | None:
        """Of both families; None for a name that stands for nothing."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            self._known[name] = self._ask(name)
        return self._known.get(name)

    def _ask(self, name: str) -> list[str] | None:
        *host, service, namespace = name.removesuffix(SUFFIX).split(".") if name.endswith(SUFFIX) else [""]
        try:
            found: Object = self._api.get(f"/api/v1/namespaces/{namespace}/services/{service}")
        except ApiError:
            return None
        if not host and found["spec"].get("clusterIP") != "None":
            return list(found["spec"].get("clusterIPs", ()))
        return self._of_pods(namespace, service, host, unready=found["spec"].get("publishNotReadyAddresses", False))

    def _of_pods(self, namespace: str, service: str, host: list[str], *, unready: bool) -> list[str] | None:
        path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
        slices = self._api.items(path, labelSelector=f"kubernetes.io/service-name={service}")
        found = [
            one["addresses"][0]
            for each in slices
            for one in each["endpoints"] or ()
            if (unready or one["conditions"].get("ready")) and (not host or [one.get("hostname")] == host)
        ]
        return found or None


def serve_names(api: Api, address: str) -> None:
    """On UDP at an address of this place, for as long as the process lives."""
    names = Names(api)
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((address, PORT))

    def serve() -> None:
        while True:
            query, client = server.recvfrom(4096)
            with contextlib.suppress(ValueError, IndexError, struct.error):
                server.sendto(answer(query, names.addresses), client)

    threading.Thread(target=serve, daemon=True).start()


def answer(query: bytes, addresses: Callable[[str], list[str] | None]) -> bytes:
    """The reply to one question, by what `addresses` makes of its name.  Raises ValueError, IndexError, struct.error for what is none."""
    labels, at = [], 12
    while length := query[at]:
        labels.append(query[at + 1 : at + 1 + length].decode().lower())
        at += 1 + length
    (kind,) = struct.unpack_from("!H", query, at + 1)
    found = addresses(".".join(labels))
    wanted = [ipaddress.ip_address(one) for one in found or ()]
    records = [
        struct.pack("!HHHIH", _POINTER, kind, 1, TTL_S, len(one.packed)) + one.packed
        for one in wanted
        if kind == {4: _A, 6: _AAAA}[one.version]
    ]
    flags = _REFUSED_NAME if found is None else _ANSWERED
    return query[:2] + struct.pack("!HHHHH", flags, 1, len(records), 0, 0) + query[12 : at + 5] + b"".join(records)

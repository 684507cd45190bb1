"""Certificates and keys for Envoy, on a memory file system that its owner alone may read.

They are read where this node is about to serve them, and go nowhere else: no event, log, metric or message has any of their content.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from services.dataplane.l7.disk import Disk
from services.dataplane.l7.protobuf import Files
from services.dataplane.l7.resources import secrets_of
from services.dataplane.secrets import Fields, SecretError, SecretSource, home_of
from weir.decider import World
from weir.events import ListenerPlanned, UpstreamPlanned, key_of
from weir.model import Rejection

_NAMES: Final = (("tls.crt", "tls.key"), ("server.crt", "server.key"))  # of fields: Kubernetes's, and LoxiLB's


class KeyPair(msgspec.Struct, frozen=True):
    """A certificate with its chain, and its key, in PEM."""

    certificate: str
    key: str

    def __repr__(self) -> str:
        return "KeyPair(…)"


def key_pair(owner: str, fields: Fields) -> KeyPair:
    """Of a Secret, in either of the ways that it is written.  Raises SecretError, which names fields and never their content."""
    for certificate, key in _NAMES:
        if certificate in fields and key in fields:
            try:
                return KeyPair(fields[certificate].decode("ascii"), fields[key].decode("ascii"))
            except UnicodeDecodeError:
                raise SecretError(f"{owner}: {certificate}, {key}: expected PEM") from None
    raise SecretError(f"{owner}: no tls.crt and tls.key")


class Certificates:
    """missing: why a Secret could not be had, by owner text; it is tried again."""

    def __init__(self, source: SecretSource, files: Files, disk: Disk) -> None:
        self._source, self._files, self._disk = source, files, disk
        self._digests: dict[str, frozenset[str]] = {}  # as planned when they were written
        self.missing: dict[str, str] = {}

    async def write(self, world: World) -> None:
        """Write what is planned and not yet written in this version; an absent one is an empty file, so that its chain alone fails."""
        wanted, home = secrets_of(world), home_of(world)
        for owner in wanted:
            if self._digests.get(owner) != wanted[owner] or owner in self.missing:
                await self._write(owner, home)
                self._digests[owner] = wanted[owner]
        for owner in self._digests.keys() - wanted.keys():
            del self._digests[owner]
            self.missing.pop(owner, None)
            self._disk.remove(self._files.secret(owner))

    async def _write(self, owner: str, home: str) -> None:
        path = self._files.secret(owner)
        try:
            pair = key_pair(owner, await self._source.read(owner, home))
        except SecretError as error:
            self.missing[owner] = str(error)
            if not self._disk.version(path):
                self._disk.put(path, "sds", [], secret=True)
            return
        self.missing.pop(owner, None)
        certificate = {"certificate_chain": {"inline_string": pair.certificate}, "private_key": {"inline_string": pair.key}}
        self._disk.put(path, "sds", [msgspec.json.encode({"name": owner, "tls_certificate": certificate})], secret=True)

    def rejections(self, world: World) -> Iterator[Rejection]:
        """The listeners and upstreams that lack a Secret."""
        for owner, reason in sorted(self.missing.items()):
            for event in (*world.find("secret", owner, ListenerPlanned), *world.find("secret", owner, UpstreamPlanned)):
                yield Rejection(entity=key_of(event), owner=owner, reason=reason)

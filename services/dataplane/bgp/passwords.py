"""Passwords of sessions with routers (RFC 2385), which are read where FRR runs and stand in its own file and nowhere else of Weir's."""

import re
import time
from collections.abc import Iterable, Mapping
from typing import Final

from services.dataplane.secrets import SecretError, SecretSource

_AGAIN_S: Final = 30.0
_FIELD: Final = "password"  # as Kubernetes has it in Secrets of type kubernetes.io/basic-auth
_WORD: Final = re.compile(r"[!-~]{1,80}")  # that FRR takes as one


class Passwords:
    """found: by Secret.   missing: why one could not be had.  One that was there and cannot be read any more counts on."""

    def __init__(self, source: SecretSource) -> None:
        self._source = source
        self._read_s: dict[str, float] = {}
        self.found: dict[str, str] = {}
        self.missing: dict[str, str] = {}

    def remember(self, known: Mapping[str, str]) -> None:
        """What FRR runs with counts until a Secret says otherwise: a session does not end because the agent was started again."""
        self.found |= known

    async def look(self, owners: Iterable[str], home: str) -> bool:
        """Read those that were not read for a while; return whether a password is another now.   home: as in `SecretSource.read`."""
        wanted, before = {*owners} - {""}, dict(self.found)
        self.found = {owner: password for owner, password in self.found.items() if owner in wanted}
        self.missing = {owner: reason for owner, reason in self.missing.items() if owner in wanted}
        for owner in sorted(wanted):
            if time.monotonic() - self._read_s.get(owner, -_AGAIN_S) >= _AGAIN_S:
                self._read_s[owner] = time.monotonic()
                await self._read(owner, home)
        return self.found != before

    async def _read(self, owner: str, home: str) -> None:
        try:
            text = (await self._source.read(owner, home)).get(_FIELD, b"").decode("ascii", errors="replace").strip()
        except SecretError as error:
            self.missing[owner] = str(error)
            return
        if _WORD.fullmatch(text):
            self.found[owner] = text
            self.missing.pop(owner, None)
        else:
            self.missing[owner] = f"{owner}: {_FIELD}: expected 1 to 80 printable ASCII characters without a space"

    def hidden(self, text: str) -> str:
        """A text without any of them."""
        for password in self.found.values():
            text = text.replace(password, "…")
        return text

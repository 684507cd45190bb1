"""Credentials of a NATS client, and the CA that it trusts; the embedded server's URL has all that is needed."""

import os
import ssl
from pathlib import Path
from typing import Any

from weir.bus.reader import Forbidden

BOOTSTRAP = "bootstrap"  # the one user of the account that holds the log
API, API_FROM_OUTSIDE = "$JS.API.", "LOG.API."


def api_of(user: str) -> str:
    """Return the subjects of JetStream's API for this user: only one is in the log's own account, see weir/bus/permissions.py."""
    return API_FROM_OUTSIDE if "WEIR_NATS_SEED" in os.environ and user != BOOTSTRAP else API


def nats_access(user: str) -> dict[str, Any]:
    """Arguments for nats-py, from WEIR_NATS_SEED and WEIR_NATS_CA, paths of our NKEY's seed and of the CA of the server's certificate.

    user: whose inboxes are used; nobody else may read them.   Raises Forbidden where a file is not what it should be.
    """
    given: dict[str, Any] = {"inbox_prefix": f"_INBOX.{user}"}
    try:
        if seed := os.environ.get("WEIR_NATS_SEED"):
            given["nkeys_seed_str"] = _checked(Path(seed).read_text().strip())
        if ca := os.environ.get("WEIR_NATS_CA"):
            given["tls"] = ssl.create_default_context(cadata=Path(ca).read_text())
    except (OSError, ValueError) as error:
        raise Forbidden(f"WEIR_NATS_SEED or WEIR_NATS_CA: {error}") from error
    return given


def _checked(seed: str) -> str:
    import nkeys  # not above: few need it, and it brings libsodium

    try:
        nkeys.from_seed(bytearray(seed.encode())).wipe()
    except nkeys.NkeysError as error:
        raise ValueError(f"not an NKEY seed: {error}") from error
    return seed

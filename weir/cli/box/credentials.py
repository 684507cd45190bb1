"""`weir credentials`: keys and certificates of the services of a cluster and its NATS.

Existing keys are kept, so running it again adds a node.  The folder gives access as every service.
"""

import os
import re
import secrets
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import nkeys
import yaml

from weir.bus.access import BOOTSTRAP
from weir.bus.permissions import CENTRAL, HELLO_KEY, OF_NODES, OPERATOR, User, accounts, users
from weir.where import write_file

NAMESPACE = "weir-system"
HOSTS = ("nats", f"nats.{NAMESPACE}", f"nats.{NAMESPACE}.svc", f"*.nats-peers.{NAMESPACE}.svc", "localhost", "127.0.0.1")
_CA_DAYS, _SERVER_DAYS = 3650, 397
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
_OPENSSL = b"[req]\ndistinguished_name = none\n[none]\n"  # what the machine's own file would add is not wanted


class CredentialsError(Exception):
    """Credentials cannot be created; the message has the reason."""


def credentials(folder: Path, nodes: Sequence[str], hosts: Sequence[str]) -> list[str]:
    """Write the folder; return the names of the users.   hosts: more names and addresses of NATS.

    Raises CredentialsError, OSError.
    """
    if wrong := [node for node in nodes if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?", node)]:
        raise CredentialsError(f"node {wrong[0]!r}: expected a name of letters, digits, dots and -")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    known = {path.stem.removeprefix("dataplane-") for path in folder.glob("dataplane-*.seed")}
    found = list(users(sorted(known | set(nodes))))
    write_file(folder / "users.conf", _accounts(folder, found))
    _certificates(folder, hosts)
    if not (folder / HELLO_KEY).exists():
        write_file(folder / HELLO_KEY, secrets.token_hex(32).encode() + b"\n", secret=True)
    write_file(folder / "secrets.yaml", yaml.safe_dump_all(_secrets(folder, found), sort_keys=False).encode(), secret=True)
    return [user.name for user in found]


def _accounts(folder: Path, found: Sequence[User]) -> bytes:
    """What the server includes."""
    keys = {user.name: _public_key(folder / user.file) for user in found}
    config = {"accounts": accounts(sorted({user.node for user in found if user.node}), keys), "system_account": "SYS"}
    return msgspec.json.format(msgspec.json.encode(config)) + b"\n"


def _public_key(path: Path) -> str:
    if not path.exists():
        write_file(path, nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER) + b"\n", secret=True)
    key: bytes = nkeys.from_seed(bytearray(path.read_bytes().strip())).public_key
    return key.decode()


def _certificates(folder: Path, hosts: Sequence[str]) -> None:
    if not (folder / "ca.crt").exists():
        (folder / "tls.crt").unlink(missing_ok=True)  # the CA that signed it is nobody's now
        _openssl(folder, "ca", _CA_DAYS, "weir", "basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign")
    asked = folder / "hosts"  # beyond HOSTS, in this run and before
    before = asked.read_text().split() if asked.exists() else []
    if not set(hosts) <= set(before) or not (folder / "tls.crt").exists():
        write_file(asked, "\n".join(sorted({*before, *hosts})).encode())
        named = (*HOSTS, *sorted({*before, *hosts}))
        names = ",".join(("IP:" if re.fullmatch(r"[0-9.]+|.*:.*", host) else "DNS:") + host for host in named)
        uses = "extendedKeyUsage=serverAuth,clientAuth"  # servers show it to one another too
        signed = ("-CA", str(folder / "ca.crt"), "-CAkey", str(folder / "ca.key"))
        _openssl(folder, "tls", _SERVER_DAYS, "nats", "basicConstraints=critical,CA:FALSE", uses, f"subjectAltName={names}", signed=signed)


def _openssl(folder: Path, name: str, days: int, subject: str, *extensions: str, signed: Sequence[str] = ()) -> None:
    added = [word for extension in (*extensions, "subjectKeyIdentifier=hash") for word in ("-addext", extension)]
    files = ("-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.crt"))
    command = ["openssl", "req", "-x509", "-config", "/dev/stdin", *_KEY, "-days", str(days), "-subj", f"/CN={subject}", *signed, *added]
    try:
        subprocess.run([*command, *files], input=_OPENSSL, check=True, capture_output=True)
    except FileNotFoundError as error:
        raise CredentialsError("openssl not found: apt-get install openssl") from error
    except subprocess.CalledProcessError as error:
        raise CredentialsError(f"openssl: {error.stderr.decode(errors='replace').strip()}") from error


def _secrets(folder: Path, found: Sequence[User]) -> Iterator[dict[str, object]]:
    """What deploy/base mounts: each service has its own seed, the services of nodes theirs from one Secret, each node's its own file."""
    yield _secret(folder, "nats-server", {name: name for name in ("users.conf", "tls.crt", "tls.key", "ca.crt")})
    for name in (*CENTRAL, OPERATOR, BOOTSTRAP):
        yield _secret(folder, f"weir-{name}", {"seed": f"{name}.seed", "ca.crt": "ca.crt"})
    for service in OF_NODES:
        seeds = {user.file: user.file for user in found if user.service == service}
        more = {HELLO_KEY: HELLO_KEY} if service == "dataplane" else {}
        yield _secret(folder, f"weir-{service}", {**seeds, **more, "ca.crt": "ca.crt"})


def _secret(folder: Path, name: str, files: dict[str, str]) -> dict[str, object]:
    """files: key -> file."""
    data = {key: (folder / file).read_text() for key, file in files.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": NAMESPACE}, "stringData": data}

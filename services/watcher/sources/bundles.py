"""What sources pass on of Secrets and ConfigMaps: facts about the certificates in them, and never their content.

A Secret's certificate is public, its key is not: the key is not even decoded here.  Of a ConfigMap only the CA bundle is passed on.
"""

from base64 import b64decode
from binascii import Error
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from services.watcher.kinds.configmap import REDUCED

_CERTIFICATES: Final = ("tls.crt", "server.crt")  # the second as LoxiLB's documents have it
_KEYS: Final = ("tls.key", "server.key")
_AUTHORITIES: Final = "ca.crt"


def reduced(content: object) -> object:
    """The document without the content of a Secret or ConfigMap; any other is given back as it is."""
    if not isinstance(content, dict) or content.get("kind") not in ("Secret", "ConfigMap"):
        return content
    kept = {name: content[name] for name in ("kind", "metadata") if name in content}
    version = "v1" if content.get("apiVersion") == "v1" else "another version"  # which could be a misplaced value
    return {"apiVersion": version, **kept, REDUCED: _secret(content) if content["kind"] == "Secret" else _config_map(content)}


def _secret(content: Mapping[str, Any]) -> dict[str, Any]:
    data = {name: _decoded(text) for name, text in _mapping(content, "data").items() if name in _CERTIFICATES}
    data |= {name: str(text).encode() for name, text in _mapping(content, "stringData").items() if name in _CERTIFICATES}
    has_key = any(name in _mapping(content, part) for name in _KEYS for part in ("data", "stringData"))
    certificate = next((data[name] for name in _CERTIFICATES if name in data), b"")
    if not certificate or not has_key:
        return {"digest": "", "problem": "no tls.crt and tls.key"}
    return {"digest": sha256(certificate).hexdigest()[:32], **_facts(certificate)}


def _facts(pem: bytes) -> dict[str, Any]:
    try:
        leaf = x509.load_pem_x509_certificates(pem)[0]
        names = leaf.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME).value
        found = names.get_values_for_type(x509.DNSName)  # type: ignore[attr-defined]
    except x509.ExtensionNotFound:
        found = []
    except (ValueError, IndexError):
        return {"problem": "tls.crt is not a certificate in PEM"}
    return {"names": list(found), "notAfter": leaf.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ")}


def _config_map(content: Mapping[str, Any]) -> dict[str, str]:
    pem = str(_mapping(content, "data").get(_AUTHORITIES, ""))
    if not pem:
        return {"authorities": "", "problem": f"no key {_AUTHORITIES}"}
    try:
        x509.load_pem_x509_certificates(pem.encode())
    except ValueError:
        return {"authorities": "", "problem": f"{_AUTHORITIES} is not a certificate in PEM"}
    return {"authorities": pem, "problem": ""}


def _mapping(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = content.get(name)
    return found if isinstance(found, dict) else {}


def _decoded(text: object) -> bytes:
    try:
        return b64decode(str(text), validate=True)
    except (Error, ValueError):
        return b""

"""Where certificates and keys come from, and that nothing of them is in what is reported."""

import asyncio
import base64
from pathlib import Path

import pytest

from services.dataplane.l7.certificates import KeyPair, Nowhere, SecretError
from services.dataplane.l7.sources import Manifests, source_of

CANARY = "canary-7f3a"


def manifest(name: str, fields: str, namespace: str = "shop") -> str:
    return f"---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: {namespace}}}\n{fields}\n"


def read(folder: Path, owner: str) -> KeyPair:
    return asyncio.run(Manifests([folder]).read(owner))


def test_secrets_are_read_by_namespace_and_name_from_any_file(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    encoded = base64.b64encode(b"CERT").decode(), base64.b64encode(b"KEY").decode()
    (tmp_path / "a.yaml").write_text(
        manifest("one", f"data: {{tls.crt: {encoded[0]}, tls.key: {encoded[1]}}}")
        + manifest("one", "stringData: {tls.crt: other, tls.key: other}", "else")
    )
    (tmp_path / "deep" / "b.yml").write_text(manifest("two", "stringData: {server.crt: CERT2, server.key: KEY2}"))
    (tmp_path / "broken.yaml").write_text("{")
    assert read(tmp_path, "Secret/shop/one") == KeyPair("CERT", "KEY")
    assert read(tmp_path, "Secret/shop/two") == KeyPair("CERT2", "KEY2")
    assert read(tmp_path, "Secret/else/one").key == "other"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ("stringData: {tls.crt: a}", "no tls.crt and tls.key"),
        (f"stringData: {{tls.key: {CANARY}}}", "no tls.crt and tls.key"),
        ("data: {tls.crt: /w==, tls.key: Y2FuYXJ5LTdmM2E=}", "expected PEM"),
        (f"data: {{tls.crt: '{CANARY}', tls.key: 7}}", "no tls.crt and tls.key"),
    ],
)
def test_a_secret_that_is_no_key_pair_is_refused_without_its_content(tmp_path: Path, fields: str, words: str) -> None:
    (tmp_path / "a.yaml").write_text(manifest("bad", fields))
    with pytest.raises(SecretError, match=words) as refused:
        read(tmp_path, "Secret/shop/bad")
    assert CANARY not in str(refused.value)
    assert refused.value.__cause__ is None


def test_missing_ones_are_named(tmp_path: Path) -> None:
    with pytest.raises(SecretError, match="Secret/shop/none: not found"):
        read(tmp_path, "Secret/shop/none")
    with pytest.raises(SecretError, match="--secrets"):
        asyncio.run(source_of(()).read("Secret/shop/none"))
    assert isinstance(source_of(()), Nowhere)


def test_a_key_pair_never_shows_its_content() -> None:
    assert CANARY not in repr(KeyPair(CANARY, CANARY)) + str(KeyPair(CANARY, CANARY))

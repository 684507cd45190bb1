"""Where certificates and keys come from, and that nothing of them is in what is reported."""

import asyncio
import base64
from pathlib import Path

import pytest
import yaml

from services.dataplane.l7.certificates import KeyPair, key_pair
from services.dataplane.secrets import Api, KubeconfigError, Manifests, Nowhere, SecretError, reach, source_of
from tests.l7.certificates import Authority

CANARY = "canary-7f3a"


def manifest(name: str, fields: str, namespace: str = "shop") -> str:
    return f"---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: {namespace}}}\n{fields}\n"


def read(folder: Path, owner: str) -> KeyPair:
    return key_pair(owner, asyncio.run(Manifests([folder]).read(owner)))


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
        asyncio.run(source_of(()).read("Secret/shop/none", ""))
    assert isinstance(source_of(()), Nowhere)


def test_a_key_pair_never_shows_its_content() -> None:
    assert CANARY not in repr(KeyPair(CANARY, CANARY)) + str(KeyPair(CANARY, CANARY))


def kubeconfig(folder: Path, server: dict[str, str], user: dict[str, str]) -> Path:
    path = folder / "kubeconfig"
    config = {
        "current-context": "here",
        "contexts": [{"name": "other", "context": {}}, {"name": "here", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": server}],
        "users": [{"name": "u", "user": user}],
    }
    path.write_text(yaml.safe_dump(config))
    return path


def test_a_kubeconfig_says_where_the_api_is_by_files_or_by_content(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.sign("client")
    encoded = {"client-certificate-data": base64.b64encode(certificate.encode()).decode()}
    encoded["client-key-data"] = base64.b64encode(key.encode()).decode()
    (tmp_path / "token").write_text("secret\n")
    by_file = reach(kubeconfig(tmp_path, {"server": "https://10.0.0.1:6443", "certificate-authority": "ca.crt"}, {"tokenFile": "token"}))
    assert (by_file.host, by_file.port, by_file.token) == ("10.0.0.1", 6443, "secret")
    server = {"server": "https://api.example.com", "certificate-authority-data": base64.b64encode(authority.pem.encode()).decode()}
    by_content = reach(kubeconfig(tmp_path, server, encoded))
    assert (by_content.host, by_content.port, by_content.token) == ("api.example.com", 443, "")
    assert by_file.tls.get_ca_certs() == by_content.tls.get_ca_certs() != []


@pytest.mark.parametrize("content", [f"[{CANARY}", f"current-context: {CANARY}", "", "users: 7", f"clusters: [{CANARY}]"])
def test_a_file_that_is_no_kubeconfig_is_refused_without_its_content(tmp_path: Path, content: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(content)
    with pytest.raises(KubeconfigError, match="not a kubeconfig") as refused:
        reach(path)
    assert CANARY not in str(refused.value)
    with pytest.raises(SecretError, match="not a kubeconfig"):
        asyncio.run(Api(path).read("Secret/shop/one"))


def test_the_kubernetes_api_is_asked_where_a_word_names_it(tmp_path: Path) -> None:
    with pytest.raises(SecretError, match="No such file"):
        asyncio.run(source_of([f"kubernetes={tmp_path / 'none'}"]).read("Secret/shop/one", ""))


def test_manifests_count_before_a_cluster(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(manifest("one", "stringData: {tls.crt: CERT, tls.key: KEY}"))
    both = source_of([f"kubernetes={tmp_path / 'none'}", str(tmp_path)])
    assert asyncio.run(both.read("Secret/shop/one", "")) == {"tls.crt": b"CERT", "tls.key": b"KEY"}
    with pytest.raises(SecretError, match="No such file"):
        asyncio.run(both.read("Secret/shop/two", ""))


@pytest.mark.parametrize(
    ("owner", "home", "words"),
    [
        ("Secret/shop/one", "west", "west.yaml"),
        ("Secret/shop/one", "east", "east.yaml"),
        ("Secret/east:shop/one", "west", "east.yaml"),
        ("Secret/north:shop/one", "west", "Secret/north:shop/one: no --secrets names cluster north"),
        ("Secret/shop/one", "north", "no --secrets names cluster north"),
        ("Secret/shop/one", "", "the home cluster is not known yet"),
    ],
)
def test_a_secret_is_read_in_its_own_cluster_alone(owner: str, home: str, words: str, tmp_path: Path) -> None:
    """One of the same namespace and name in another is somebody else's.  Each cluster is known by the file that it lacks."""
    source = source_of([f"kubernetes:{name}={tmp_path / name}.yaml" for name in ("west", "east")])
    with pytest.raises(SecretError, match=words):
        asyncio.run(source.read(owner, home))


def test_a_secret_of_another_cluster_is_in_no_manifest(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(manifest("one", "stringData: {tls.crt: CERT, tls.key: KEY}"))
    with pytest.raises(SecretError, match="no --secrets names cluster east"):
        asyncio.run(source_of([str(tmp_path)]).read("Secret/east:shop/one", ""))

"""What is left of kubernetes-asyncio still knows the ways to log in, and no models."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from services.watcher.sources.api import Api, ConfigError, configured

CREDENTIAL = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "from-a-command"}}
COMMAND = {"apiVersion": CREDENTIAL["apiVersion"], "command": "echo", "args": [json.dumps(CREDENTIAL)], "interactiveMode": "Never"}


def kubeconfig(path: Path, user: dict[str, object]) -> Path:
    """Of one cluster, with one user."""
    context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
    cluster = {"name": "c", "cluster": {"server": "https://192.0.2.1:6443", "insecure-skip-tls-verify": True}}
    users = [{"name": "u", "user": user}]
    whole = {"apiVersion": "v1", "kind": "Config", "clusters": [cluster], "users": users, "contexts": [context], "current-context": "c"}
    path.write_bytes(msgspec.json.encode(whole))
    return path


@pytest.mark.parametrize(("user", "token"), [({"token": "as-written"}, "as-written"), ({"exec": COMMAND}, "from-a-command")])
def test_a_kubeconfig_logs_in(tmp_path: Path, user: dict[str, object], token: str) -> None:
    async def logged_in() -> tuple[str, str]:
        configuration = await configured(kubeconfig(tmp_path / "config", user))
        Api(configuration)
        return configuration.host, configuration.api_key["BearerToken"]

    assert asyncio.run(logged_in()) == ("https://192.0.2.1:6443", f"Bearer {token}")


def test_a_pod_without_an_account_is_told_so() -> None:
    with pytest.raises(ConfigError, match="service account of this pod"):
        asyncio.run(configured(None))


def test_a_kubeconfig_that_does_not_parse_is_not_quoted(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text("users:\n- user: {token: *hunter2-very-secret}\n")
    with pytest.raises(ConfigError) as raised:
        asyncio.run(configured(path))
    assert str(raised.value) == f"{path}: malformed YAML at line 2, column 17"


def test_no_model_is_imported() -> None:
    script = "import sys, services.watcher.sources.kube; print(*[name for name in sys.modules if name.startswith('kubernetes_asyncio.')])"
    imported = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert "kubernetes_asyncio.client.api_client" in imported
    assert not [name for name in imported if name.startswith("kubernetes_asyncio.client.models.")]

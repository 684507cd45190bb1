"""deploy/ as it is written: what every container is held to, that its flags, images and Secrets exist, and that no secret is in it."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.binaries import NoGo, binary
from weir.cli.box.credentials import CredentialsError, credentials

DEPLOY = Path(__file__).parents[2] / "deploy"
OVERLAYS = ("in-cluster", "external", "single-node")
MODULES = {"weir-loader": "services.dataplane.load.daemon", "weir": "weir.cli"}
Object = dict[str, Any]


@cache
def kubectl() -> list[str]:
    """The machine's own, or the one that the tests of clusters build."""
    if found := shutil.which("kubectl"):
        return [found]
    try:
        return [str(binary("cluster")), "kubectl"]
    except NoGo as error:
        pytest.skip(str(error))


@cache
def built(overlay: str) -> list[Object]:
    command = [*kubectl(), "kustomize", str(DEPLOY / "overlays" / overlay)]
    return list(yaml.safe_load_all(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def pods(overlay: str) -> Iterator[tuple[str, Object]]:
    for each in built(overlay):
        if "template" in each.get("spec", {}):
            yield each["metadata"]["name"], each["spec"]["template"]["spec"]


def containers(overlay: str) -> Iterator[tuple[Object, Object]]:
    for _, pod in pods(overlay):
        for container in (*pod.get("initContainers", ()), *pod["containers"]):
            yield pod, container


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_container_is_held_to_the_least(overlay: str) -> None:
    for _, container in containers(overlay):
        context = container["securityContext"]
        assert context["capabilities"]["drop"] == ["ALL"], container["name"]
        assert context["readOnlyRootFilesystem"], container["name"]
        assert context["allowPrivilegeEscalation"] is False, container["name"]
        assert "privileged" not in context, container["name"]
        assert {"cpu", "memory"} <= set(container["resources"]["requests"]), container["name"]
        assert "memory" in container["resources"]["limits"], container["name"]
    for name, pod in pods(overlay):
        assert not {"hostPID", "hostIPC", "shareProcessNamespace"} & set(pod)
        assert pod.get("hostNetwork", False) == (name == "node")
        assert pod["securityContext"].get("runAsNonRoot", False) == (name != "node")
        assert pod["securityContext"]["seccompProfile"] == {"type": "Unconfined" if name == "node" else "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] == (name == "watcher") or name == "node"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_whatever_stays_is_probed(overlay: str) -> None:
    for name, pod in pods(overlay):
        for container in pod["containers"] if name != "bootstrap" else ():
            assert {"readinessProbe", "livenessProbe"} <= set(container), container["name"]


def test_flags_in_the_manifests_are_flags_of_the_services() -> None:
    for _, container in containers("in-cluster"):
        image = container["image"].partition(":")[0]
        if image == "nats":
            continue
        words = [word for word in container["args"] if not word.startswith(("--", "@"))]
        module = container["command"][-1] if "command" in container else MODULES.get(image) or f"services.{image.removeprefix('weir-')}"
        told = subprocess.run([sys.executable, "-m", module, *words, "--help"], capture_output=True, text=True, check=True).stdout
        for flag in re.findall(r"--[a-z-]+", " ".join(container["args"])):
            assert re.search(rf"{flag}\b", told), f"{image}: {flag}"


def test_every_image_has_a_recipe() -> None:
    targets = set(re.findall(r"^FROM \S+ AS (\S+)", (DEPLOY / "images/weir.Dockerfile").read_text(), re.M))
    images = {container["image"].partition(":")[0] for _, container in containers("in-cluster")}
    assert {image.removeprefix("weir-") for image in images - {"nats"}} <= targets


def test_what_pods_mount_is_made_by_weir_credentials(tmp_path: Path) -> None:
    credentials(tmp_path, ["n1"], ())
    made = {each["metadata"]["name"]: set(each["stringData"]) for each in yaml.safe_load_all((tmp_path / "secrets.yaml").read_text())}
    for name, pod in pods("in-cluster"):
        names = {
            volume["name"]: volume["secret"]["secretName"]
            for volume in pod["volumes"]
            if "secret" in volume and not volume["secret"].get("optional")
        }
        assert set(names.values()) <= set(made), name
        for container in pod["containers"]:
            for mount in container["volumeMounts"]:
                if key := mount.get("subPath") or mount.get("subPathExpr"):
                    assert key.replace("$(NODE)", "n1") in made[names[mount["name"]]]


def test_a_node_is_added_and_all_keys_stay(tmp_path: Path) -> None:
    credentials(tmp_path, ["n1"], ())
    before = {path.name: path.read_text() for path in tmp_path.iterdir() if path.suffix in (".seed", ".crt", ".key")}
    names = credentials(tmp_path, ["n2.example"], ())
    assert {"dataplane-n1", "health-n1", "dataplane-n2=2Eexample"} <= set(names)
    assert {name: (tmp_path / name).read_text() for name in before} == before
    assert {path.stat().st_mode & 0o077 for path in (*tmp_path.glob("*.seed"), *tmp_path.glob("*.key"), tmp_path / "secrets.yaml")} == {0}


def test_a_name_of_nats_that_comes_later_is_in_its_certificate_beside_the_others(tmp_path: Path) -> None:
    credentials(tmp_path, (), ["nats.example"])
    authority = (tmp_path / "ca.crt").read_text()
    credentials(tmp_path, (), ["192.0.2.7"])
    command = ["openssl", "x509", "-noout", "-text", "-in", str(tmp_path / "tls.crt")]
    shown = subprocess.run(command, check=True, capture_output=True, text=True)
    named = set(re.findall(r"(?:DNS|IP Address):[^,\s]+", shown.stdout))
    assert {"DNS:nats.weir-system.svc", "DNS:nats.example", "IP Address:192.0.2.7"} <= named
    assert (tmp_path / "ca.crt").read_text() == authority


def test_a_new_authority_signs_a_new_certificate(tmp_path: Path) -> None:
    credentials(tmp_path, (), ())
    for name in ("ca.crt", "ca.key"):
        (tmp_path / name).unlink()
    credentials(tmp_path, (), ())
    verify = ["openssl", "verify", "-CAfile", str(tmp_path / "ca.crt"), str(tmp_path / "tls.crt")]
    assert subprocess.run(verify, capture_output=True, check=False).returncode == 0


def test_a_node_that_is_no_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CredentialsError, match="expected a name"):
        credentials(tmp_path, ["../n1"], ())


def test_nats_takes_its_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    credentials(tmp_path / "keys", ["n1"], ())
    shutil.copytree(DEPLOY / "base/nats", tmp_path / "config")
    for path in (tmp_path / "config").glob("*.conf"):
        path.write_text(path.read_text().replace("/etc/nats/keys", str(tmp_path / "keys")))
    monkeypatch.setenv("POD_NAME", "nats-0")
    server = [str(Path(sys.executable).with_name("nats-server")), "-t", "-c", str(tmp_path / "config/nats.conf")]
    told = subprocess.run(server, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr


def test_no_secret_is_in_the_repository() -> None:
    for path in DEPLOY.rglob("*"):
        if path.is_file():
            text = path.read_text()
            assert not re.search(r"\bS[UAO][A-Z2-7]{56}\b|PRIVATE KEY|^kind: Secret", text, re.M), path


def with_component(name: str, folder: Path) -> list[Object]:
    """What an overlay with the component comes to."""
    places = {"resources": "overlays/in-cluster", "components": f"components/{name}"}
    here = {word: [os.path.relpath(DEPLOY / place, folder)] for word, place in places.items()}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(here))
    done = subprocess.run([*kubectl(), "kustomize", str(folder)], check=True, capture_output=True, text=True)
    return list(yaml.safe_load_all(done.stdout))


def test_component_puts_frr_beside_each_agent(tmp_path: Path) -> None:
    objects = with_component("bgp", tmp_path)
    pod = next(each["spec"]["template"]["spec"] for each in objects if each["kind"] == "DaemonSet")
    found = {container["name"]: container for container in pod["containers"]}
    assert found["frr"]["image"].startswith("weir-frr:")
    assert found["frr"]["securityContext"]["readOnlyRootFilesystem"]
    assert {"--frr", "--secrets=kubernetes"} < set(found["dataplane"]["args"])
    (group,) = pod["securityContext"]["supplementalGroups"]
    assert f"--gid {group} frrvty" in (DEPLOY / "images" / "weir.Dockerfile").read_text()
    (role,) = (each for each in objects if each["kind"] == "Role" and each["metadata"]["name"] == "weir-node-passwords")
    assert (role["metadata"]["namespace"], role["rules"]) == (
        "weir-system",
        [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}],
    )


def test_component_puts_an_envoy_beside_each_agent(tmp_path: Path) -> None:
    objects = with_component("proxy", tmp_path)
    pod = next(each["spec"]["template"]["spec"] for each in objects if each["kind"] == "DaemonSet")
    found = {container["name"]: container for container in (*pod["initContainers"], *pod["containers"])}
    assert found["envoy"]["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}
    assert found["envoy"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert all(found[name]["securityContext"]["readOnlyRootFilesystem"] for name in ("envoy", "envoy-binary", "dataplane"))
    assert {"--proxy", "--secrets=kubernetes"} < set(found["dataplane"]["args"])
    holding = [name for name, each in found.items() if any(mount["name"] == "api" for mount in each["volumeMounts"])]
    assert holding == ["dataplane"], "nobody else may read Secrets"
    rules = [rule for each in objects if each["metadata"]["name"] == "weir-node-secrets" for rule in each.get("rules", ())]
    assert rules == [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]

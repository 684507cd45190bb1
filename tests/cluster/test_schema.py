"""The fields and kinds that the watcher knows are those of the API itself."""

import json
from pathlib import Path
from typing import Any

import yaml

from services.watcher.kinds.registry import GROUPS, KINDS
from services.watcher.kinds.schema import METADATA, Fields
from tests.cluster.binaries import module

FIELDS = {kind.word: kind.fields for kind in KINDS}
CRDS = Path(__file__).parents[2] / "deploy/crds"


def resolved(schemas: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    while True:
        if "$ref" in node:
            node = schemas[node["$ref"].rpartition("/")[2]]
        elif len(node.get("allOf", ())) == 1:
            node = node["allOf"][0]
        else:
            return node


def fields(schemas: dict[str, Any], node: dict[str, Any]) -> Fields | None:
    """Nested fields; of a list those of its items."""
    node = resolved(schemas, node)
    if node.get("type") == "array":
        return fields(schemas, node["items"])
    properties = node.get("properties")
    return {name: fields(schemas, below) for name, below in properties.items()} if properties else None


def test_the_fields_and_kinds_of_kubernetes_are_those_of_its_api() -> None:
    folder = module("k8s.io/kubernetes") / "api/openapi-spec/v3"
    for group, page, package, ours in (
        ("", "api__v1", "core.v1", ["Service", "Namespace", "Node"]),
        ("discovery.k8s.io", "apis__discovery.k8s.io__v1", "discovery.v1", ["EndpointSlice"]),
        ("networking.k8s.io", "apis__networking.k8s.io__v1", "networking.v1", ["IngressClass", "Ingress"]),
    ):
        schemas = json.loads((folder / f"{page}_openapi.json").read_text())["components"]["schemas"]
        of_package = {name.rpartition(".")[2]: schema for name, schema in schemas.items() if name.startswith(f"io.k8s.api.{package}.")}
        kinds = {name for name, schema in of_package.items() if "x-kubernetes-group-version-kind" in schema}
        assert kinds - {f"{kind}List" for kind in kinds} == GROUPS[group] - {"List"}
        for kind in ours:
            assert FIELDS[kind] == fields(schemas, of_package[kind]), kind


def test_the_fields_and_kinds_of_weir_are_those_of_its_crds() -> None:
    crds = [yaml.safe_load(path.read_text()) for path in CRDS.glob("*.yaml")]
    shapes = {crd["spec"]["names"]["kind"]: crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"] for crd in crds if "spec" in crd}
    assert shapes.keys() == GROUPS["weir.dev"]
    for kind in shapes.keys() & FIELDS.keys():
        assert FIELDS[kind] == {**(fields({}, shapes[kind]) or {}), "metadata": METADATA}, kind

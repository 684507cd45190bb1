"""Who may import whom, read from the sources: services meet only in the log, and no core reaches for the world."""

import ast
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SERVICES = sorted(path.parent.name for path in ROOT.glob("services/*/__main__.py"))
CORES = [f"services.{path.parent.name}.core" for path in sorted(ROOT.glob("services/*/core.py"))]
PURE = {
    *(
        "__future__",
        "abc",
        "array",
        "base64",
        "bisect",
        "collections",
        "dataclasses",
        "difflib",
        "enum",
        "fractions",
        "functools",
        "hashlib",
        "heapq",
        "ipaddress",
    ),
    *("itertools", "json", "math", "operator", "re", "string", "struct", "types", "typing", "zlib"),
}
LEAVES = {"weir.pins"}  # packs addresses with socket.inet_pton; what opens a map there needs a file descriptor to begin with


def imports(source: str) -> Iterator[str]:
    """Every module that `source` imports, wherever in it, `from package import module` both ways."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports hide the layer"
            assert node.module
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


def source_of(module: str) -> str | None:
    path = ROOT / module.replace(".", "/")
    found = [file for file in (path.with_suffix(".py"), path / "__init__.py") if file.exists()]
    return found[0].read_text() if found else None


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


TOP = ("weir.cli", "weir.demo")  # imported by nobody but each other
BELOW_VIEW = ("bus", "decider", "events", "lbnodes", "model", "pins", "plan", "ranges", "where", "words")  # in weir


def within(module: str, packages: Iterable[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def imports_another_service(module: str, imported: str) -> bool:
    return within(module, ["services"]) and within(imported, ["services"]) and imported.split(".")[1:2] not in ([], module.split(".")[1:2])


def imports_a_service_from_below(module: str, imported: str) -> bool:
    return within(module, ["weir"]) and not within(module, TOP) and within(imported, ["services"])


def imports_the_top_layer(module: str, imported: str) -> bool:
    return within(imported, TOP) and not within(module, TOP)


def imports_the_read_model_from_below(module: str, imported: str) -> bool:
    return within(imported, ["weir.view"]) and within(module, [f"weir.{name}" for name in BELOW_VIEW])


CONTRACTS = {
    "services meet only in the log": imports_another_service,
    "weir imports no service, but for the top layer": imports_a_service_from_below,
    "nothing imports the command line and the demo": imports_the_top_layer,
    "what the read model rests on does not import it": imports_the_read_model_from_below,
}


def breaches(module: str, source: str) -> list[str]:
    """Return the imports of `module` that a contract forbids, each with the contract's name."""
    found = sorted(set(imports(source)))
    return [f"{name}: {module} imports {imported}" for name, breach in CONTRACTS.items() for imported in found if breach(module, imported)]


def impure(module: str, source: str) -> list[str]:
    """What a core must not reach: by itself, or through modules of ours."""
    seen, found, waiting = {module}, [], [(module, source)]
    while waiting:
        where, text = waiting.pop()
        for imported in sorted(set(imports(text))):
            top = imported.partition(".")[0]
            if top in ("services", "weir"):
                more = source_of(imported)
                if more is not None and imported not in seen | LEAVES:
                    seen.add(imported)
                    waiting.append((imported, more))
            elif top != "msgspec" and top not in PURE:
                found.append(f"{where} imports {imported}")
    return found


@pytest.mark.parametrize("folder", ["weir", "services"])
def test_every_import_keeps_the_contracts(folder: str) -> None:
    sources = {name_of(path): path.read_text() for path in ROOT.glob(f"{folder}/**/*.py")}
    assert len(sources) > 5
    assert [found for name, source in sources.items() for found in breaches(name, source)] == []


@pytest.mark.parametrize("core", CORES)
def test_core_reaches_nothing_impure(core: str) -> None:
    source = source_of(core)
    assert source
    assert impure(core, source) == []


def test_every_service_has_a_core() -> None:
    assert [f"services.{name}.core" for name in SERVICES] == [core for core in CORES if core.split(".")[1] in SERVICES]


def test_what_counts_as_pure_is_of_the_standard_library() -> None:
    assert sys.stdlib_module_names >= PURE


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("services.ipam.core", "from services.planner.core import plan", "services meet only in the log"),
        ("services.ipam.edge", "import services.health.core", "services meet only in the log"),
        ("services.ipam.edge", "def late():\n    from services import health", "services meet only in the log"),
        ("weir.bus.client", "from services.ipam.core import Ipam", "weir imports no service, but for the top layer"),
        ("weir.decider", "if True:\n    import services.ipam", "weir imports no service, but for the top layer"),
        ("weir.view.plan", "from services.dataplane.core import members", "weir imports no service, but for the top layer"),
        ("weir.view.status", "from weir.cli.output import Row", "nothing imports the command line and the demo"),
        ("services.watcher.edge", "from weir import cli", "nothing imports the command line and the demo"),
        ("weir.bus.client", "from weir.demo.network import wait_until", "nothing imports the command line and the demo"),
        ("weir.lbnodes", "from weir.view.nodes import nodes", "what the read model rests on does not import it"),
    ],
)
def test_import_that_breaks_a_contract_is_found(module: str, line: str, contract: str) -> None:
    assert {found.partition(":")[0] for found in breaches(module, line)} == {contract}


@pytest.mark.parametrize("module", ["services.ipam.core", "weir.cli.show.get", "weir.demo.report"])
def test_allowed_import_is_not_found(module: str) -> None:
    assert not breaches(module, "from services.ipam.core import Ipam\nfrom weir.events import Event")


@pytest.mark.parametrize(
    "name",
    ["asyncio", "time", "random", "uuid", "os", "socket", "subprocess", "logging", "structlog", "nats", "pyroute2", "bcc", "pathlib"],
)
def test_impure_import_of_a_core_is_found(name: str) -> None:
    assert impure("services.ipam.core", f"from collections import deque\nimport {name}") == [f"services.ipam.core imports {name}"]


@pytest.mark.parametrize("module", ["weir.bus.client", "weir.service.runner", "services.dataplane.edge"])
def test_impurity_is_found_behind_a_module_of_ours(module: str) -> None:
    assert any(f"{module} imports" in found for found in impure("services.ipam.core", f"import {module}"))

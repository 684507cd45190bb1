"""Who may import whom, read from the sources: services meet only in the log, and no core reaches for the world."""

import ast
import sys
from collections.abc import Iterator
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


def breaches(module: str, source: str) -> list[str]:
    """Imports of `module` that its layer forbids."""
    package, _, rest = module.partition(".")
    found = [imported for imported in imports(source) if imported.startswith("services.")]
    if package == "services":
        own = f"services.{rest.split('.')[0]}"
        return [imported for imported in found if imported != own and not imported.startswith(f"{own}.")]
    if module.startswith(("weir.cli.", "weir.demo.")):
        return []
    return found


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
def test_no_service_imports_another_and_weir_imports_none(folder: str) -> None:
    sources = {name_of(path): path.read_text() for path in ROOT.glob(f"{folder}/**/*.py")}
    assert len(sources) > 5
    assert {name: found for name, source in sources.items() if (found := breaches(name, source))} == {}


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
    ("module", "line"),
    [
        ("services.ipam.core", "from services.planner.core import plan"),
        ("services.ipam.edge", "import services.health.core"),
        ("services.ipam.edge", "def late():\n    from services import health"),
        ("weir.bus.client", "from services.ipam.core import Ipam"),
        ("weir.decider", "if True:\n    import services.ipam"),
    ],
)
def test_import_of_another_service_is_found(module: str, line: str) -> None:
    assert breaches(module, line)


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

"""Who imports whom: the packages' arrows run one way, and those of their modules too."""

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("quickdraw_tfrecords", "trainer", "tools")


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


MODULES = {_name(path): path for package in PACKAGES for path in (ROOT / package).rglob("*.py")}


def _imports(module: str) -> Iterator[str]:
    """The project's modules that one imports, also within its functions or for types only."""
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            for alias in node.names:
                # `from package import module`, or a name that the package itself has.
                submodule = f"{node.module}.{alias.name}"
                yield submodule if submodule in MODULES else node.module


GRAPH = {module: set(_imports(module)) - {module} for module in MODULES}


def _subpackage(module: str) -> str:
    """`trainer.training` of `trainer.training.loop`; a module beside them stands for itself."""
    return ".".join(module.split(".")[:2])


def _require_no_cycle(graph: dict[str, set[str]]) -> None:
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))


def test_the_graph_is_not_empty():
    assert "trainer.run_directory.checkpoints" in GRAPH["trainer.training.state"]
    assert "quickdraw_tfrecords.base.errors" in GRAPH["trainer.config"]


@pytest.mark.parametrize("package", PACKAGES)
def test_modules_import_each_other_in_one_direction(package):
    _require_no_cycle({name: GRAPH[name] for name in GRAPH if name.split(".")[0] == package})


@pytest.mark.parametrize("package", ["quickdraw_tfrecords", "trainer"])
def test_packages_import_each_other_in_one_direction(package):
    arrows: dict[str, set[str]] = {}
    for module, imported in GRAPH.items():
        if module.split(".")[0] == package and module != package:  # which offers all of its own
            start = _subpackage(module)
            ends = {_subpackage(name) for name in imported if name.split(".")[0] == package}
            arrows.setdefault(start, set()).update(ends - {start, package})
    _require_no_cycle(arrows)


@pytest.mark.parametrize(
    ("package", "others"), [("quickdraw_tfrecords", {"trainer", "tools"}), ("trainer", {"tools"})]
)
def test_what_comes_before_knows_nothing_of_what_comes_after(package, others):
    arrows = {
        (module, name)
        for module, imported in GRAPH.items()
        for name in imported
        if module.split(".")[0] == package and name.split(".")[0] in others
    }
    assert not arrows

"""The packages of this project and the imports between them, read from the source."""

import ast
import graphlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from quickdraw_tfrecords.base.errors import DataError

LANES = ("quickdraw_tfrecords", "trainer", "tools")

_COMMANDS = ("__main__", "console")  # modules that only start commands

Graph = Mapping[str, set[str]]  # by package, the packages that it imports


def read_imports(root: Path) -> dict[str, set[str]]:
    """For each package below `root`, the packages that its modules import, wherever they do."""
    modules = {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
        for lane in LANES
        for path in sorted((root / lane).rglob("*.py"))
    }
    graph: dict[str, set[str]] = {}
    for module, path in modules.items():
        imported = {
            package_of(name)
            for name in _imported_names(ast.parse(path.read_text()), modules)
            if name in modules
        }
        graph.setdefault(package_of(module), set()).update(imported - {package_of(module)})
    return graph


def package_of(module: str) -> str:
    """The box that a module is drawn in: quickdraw_tfrecords.base.cli -> quickdraw_tfrecords.base.

    All of tools is one box, and what starts a command is with the commands.
    """
    lane, *rest = module.split(".")
    if lane == "tools" or not rest:
        return lane
    return f"{lane}.commands" if rest[0] in _COMMANDS else f"{lane}.{rest[0]}"


def _imported_names(tree: ast.Module, modules: Mapping[str, Path]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                name = f"{node.module}.{alias.name}"  # a module, or something in one
                yield name if name in modules else str(node.module)


def columns(graph: Graph) -> dict[str, int]:
    """The column of each package: right of all that it imports, from 0.

    Raises:
      DataError: Packages import each other in a circle.
    """
    found: dict[str, int] = {}
    try:
        for package in graphlib.TopologicalSorter(graph).static_order():
            imported = (found[name] for name in graph.get(package, ()))
            found[package] = max(imported, default=-1) + 1
    except graphlib.CycleError as error:
        raise DataError(f"packages import each other: {' <- '.join(error.args[1])}") from None
    return found


def without_shortcuts(graph: Graph) -> dict[str, set[str]]:
    """The graph without arrows that follow from two or more others."""

    def reachable(package: str) -> set[str]:
        direct = graph.get(package, set())
        return direct.union(*map(reachable, direct))

    return {
        package: imported - set().union(*map(reachable, imported))
        for package, imported in graph.items()
    }

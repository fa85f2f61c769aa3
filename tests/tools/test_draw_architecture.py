"""Tests of tools.draw_architecture and tools.package_graph."""

import itertools
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quickdraw_tfrecords.base.errors import DataError
from tools import draw_architecture, package_graph
from tools.draw_architecture import ROOT, WAY

PICTURE = ROOT / "docs" / "architecture.svg"


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, set[str]]:
    """Graphs without circles: each package imports some of those before it."""
    names = [f"{lane}.{letter}" for letter in "abcd" for lane in ("quickdraw_tfrecords", "trainer")]
    return {
        name: draw(st.sets(st.sampled_from(names[:index]))) if index else set()
        for index, name in enumerate(names)
    }


def reachable(graph: dict[str, set[str]], package: str) -> set[str]:
    found, waiting = set(), [package]
    while waiting:
        for name in graph[waiting.pop()] - found:
            found.add(name)
            waiting.append(name)
    return found


def test_the_picture_in_the_docs_is_what_the_command_draws():
    drawn = draw_architecture.draw(package_graph.read_imports(ROOT))
    remedy = (
        "the imports have changed: python -m tools.draw_architecture --svg=docs/architecture.svg"
    )
    assert PICTURE.read_text() == drawn, remedy


def test_every_package_has_its_paragraph():
    page = (ROOT / "docs" / "architecture.md").read_text()
    for package in package_graph.read_imports(ROOT):
        assert f"**{package.split('.')[-1]}**" in page


def test_every_package_is_drawn_and_the_way_leads_through_packages():
    graph = package_graph.read_imports(ROOT)
    texts = [element.text for element in ElementTree.parse(PICTURE).iter() if element.text]
    for package in graph:
        assert package.partition(".")[2] in texts or "." not in package
    assert graph.keys() >= set(WAY)


@given(graphs())
def test_every_arrow_runs_to_the_right(graph):
    column = package_graph.columns(graph)
    for package, imported in graph.items():
        assert all(column[name] < column[package] for name in imported)


@given(graphs())
def test_what_is_left_out_follows_from_what_is_drawn(graph):
    reduced = package_graph.without_shortcuts(graph)
    for package, imported in reduced.items():
        assert reachable(reduced, package) == reachable(graph, package)
        for name in imported:  # none of them could be left out, too
            others = imported - {name}
            assert not any(name in reachable(graph, other) for other in others)


@given(graphs())
def test_nothing_is_drawn_over_anything_else(graph):
    root = ElementTree.fromstring(draw_architecture.draw(graph))
    boxes = [
        [float(element.get(key)) for key in ("x", "y", "width", "height")]
        for element in root.iter("{http://www.w3.org/2000/svg}rect")
    ]
    assert len(boxes) == len(graph)
    for (x, y, width, height), (x2, y2, *_) in itertools.combinations(boxes, 2):
        assert abs(x - x2) >= width or abs(y - y2) >= height
    right, bottom = (float(root.get(key)) for key in ("width", "height"))
    assert all(x + width <= right and y + height <= bottom for x, y, width, height in boxes)


def test_a_circle_is_refused():
    graph = {"trainer.a": {"trainer.b"}, "trainer.b": {"trainer.c"}, "trainer.c": {"trainer.a"}}
    with pytest.raises(DataError, match=r"import each other: trainer\.\w <- .* <- trainer\.\w"):
        package_graph.columns(graph)


def test_imports_are_found_wherever_they_are(tmp_path: Path):
    files = {
        "quickdraw_tfrecords/__init__.py": "",
        "quickdraw_tfrecords/base/__init__.py": "",
        "quickdraw_tfrecords/base/files.py": "import os",
        "quickdraw_tfrecords/format/__init__.py": "from quickdraw_tfrecords.base import files",
        "quickdraw_tfrecords/format/shards.py": "from quickdraw_tfrecords.format import records",
        "trainer/__init__.py": "",
        "trainer/session.py": "def run():\n    import quickdraw_tfrecords.format.shards",
        "trainer/__main__.py": "from trainer.session import run",
        "tools/look.py": "from quickdraw_tfrecords.base.files import crc\nimport trainer",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert package_graph.read_imports(tmp_path) == {
        "quickdraw_tfrecords": set(),
        "quickdraw_tfrecords.base": set(),
        "quickdraw_tfrecords.format": {"quickdraw_tfrecords.base"},
        "trainer": set(),
        "trainer.session": {"quickdraw_tfrecords.format"},
        "trainer.commands": {"trainer.session"},
        "tools": {"quickdraw_tfrecords.base", "trainer"},
    }

"""The notebooks of the docs run from top to bottom, with fewer and synthetic drawings."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import nbclient
import nbformat
import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "docs").glob("*.ipynb"))
PARAMETERS = {
    "quickstart": 'SOURCE = "--source=synthetic"\n'
    'CLASSES = "apple,cat,house"\nPER_CLASS = 200\nEPOCHS = 2\n',
    "own_drawings": "PER_CLASS = 30\nEPOCHS = 2\n",
}


def tags(cell: nbformat.NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


@pytest.fixture
def read() -> Iterator[object]:
    """Reads a notebook; what needs a network is left out, and what takes long is made short."""

    def read(path: Path) -> nbformat.NotebookNode:
        notebook = nbformat.read(path, as_version=4)
        notebook.cells = [cell for cell in notebook.cells if "setup" not in tags(cell)]
        (parameters,) = (cell for cell in notebook.cells if "parameters" in tags(cell))
        wanted = {line.split(" = ")[0] for line in PARAMETERS[path.stem].splitlines()}
        assert wanted == {line.split(" = ")[0] for line in parameters.source.splitlines()}
        parameters.source = PARAMETERS[path.stem]
        return notebook

    return read


@pytest.mark.slow
@pytest.mark.usefixtures("cairo")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_from_top_to_bottom(path, read, tmp_path, monkeypatch):
    commands = Path(sys.executable).parent  # where `quickdraw` is
    monkeypatch.setenv("PATH", os.pathsep.join([str(commands), os.environ["PATH"]]))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *sys.path]))
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "own").mkdir()
    notebook = read(path)
    client = nbclient.NotebookClient(
        notebook, timeout=600, resources={"metadata": {"path": str(tmp_path / "docs")}}
    )
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    text = "".join(output.get("text", "") for output in outputs)
    assert "error:" not in text  # of a command, which does not end a notebook
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == {"quickstart": 4, "own_drawings": 1}[path.stem]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_shown_is_of_a_whole_run(path):
    """The outputs that are kept with it: those of one run, in order, without an error."""
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    run = [cell for cell in cells if "setup" not in tags(cell)]
    assert [cell.execution_count for cell in run] == list(range(1, len(run) + 1))
    kinds = {output.output_type for cell in cells for output in cell.outputs}
    assert kinds <= {"stream", "display_data", "execute_result"}
    assert path.stat().st_size < 300_000

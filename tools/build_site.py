"""Builds the site of README, docs/, and the notebooks into build/site/html; dead links end it.

python -m tools.build_site
"""

import base64
import json
import re
import shutil
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from quickdraw_tfrecords.base import cli
from quickdraw_tfrecords.base.errors import DataError

_ROOT = Path(__file__).parents[1]
_PAGES = _ROOT / "build" / "site" / "pages"
_HTML = _ROOT / "build" / "site" / "html"
_PAGES_OF_ROOT = {"README.md": "index.md", "CONTRIBUTING.md": "", "CHANGELOG.md": ""}
_FILES_OF_ROOT = ("LICENSE", "NOTICE")

# A link's target, with what is before it.
_LINK = re.compile(r'(\]\(|src=")(?!https?://|#)([^)"\s]+)')
_COLORS = re.compile(r"\x1b\[[0-9;]*m")  # a program's for a terminal


def main() -> None:
    """Gathers the pages, and builds the site of them."""
    shutil.rmtree(_PAGES, ignore_errors=True)
    gather(_PAGES)
    program = Path(sys.executable).parent / "zensical"
    done = subprocess.run(
        [program, "build", "--strict", "--clean"], cwd=_ROOT, capture_output=True, text=True
    )
    output = _COLORS.sub("", done.stdout + done.stderr)
    if done.returncode or "Warning" in output:
        raise DataError(f"the site cannot be built:\n{output}")
    if dead := list(dead_links(_HTML)):
        raise DataError("links of the site that lead nowhere:\n" + "\n".join(dead))
    print(f"the site is in {_HTML / 'index.html'}")


def gather(folder: Path) -> None:
    """Brings the pages together in one folder, with links to where they are now."""
    folder.mkdir(parents=True)
    docs = [path for path in (_ROOT / "docs").iterdir() if path.is_file()]
    for path in (*docs, *(_ROOT / name for name in _FILES_OF_ROOT)):
        if path.suffix not in (".ipynb", ".md"):
            shutil.copy(path, folder)
    for name, new_name in _PAGES_OF_ROOT.items():
        (folder / (new_name or name)).write_text(_move_links((_ROOT / name).read_text(), _ROOT))
    for path in docs:
        if path.suffix == ".md":
            (folder / path.name).write_text(_move_links(path.read_text(), path.parent))
        elif path.suffix == ".ipynb":
            _write_notebook(path, folder)


def _move_links(text: str, home: Path) -> str:
    """A page's text, whose links to files of the repository lead to those of the site."""

    def move(match: re.Match[str]) -> str:
        target, _, anchor = match[2].partition("#")
        name = (home / target).resolve().relative_to(_ROOT).as_posix()
        name = _PAGES_OF_ROOT.get(name) or name.removeprefix("docs/")
        name = re.sub(r"\.ipynb$", ".md", name)
        return f"{match[1]}{name}{'#' if anchor else ''}{anchor}"

    return _without_code_links(_LINK.sub(move, text))


def _without_code_links(text: str) -> str:
    """What points into the source points nowhere on the site: its words stay."""
    return re.sub(r"\[([^]]+)\]\([\w/]+\.(?:py|flags)\)", r"\1", text)


def _write_notebook(path: Path, folder: Path) -> None:
    """A notebook as a page: its text, its code, and what the code put out."""
    parts = []
    for number, cell in enumerate(json.loads(path.read_text())["cells"]):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(_move_links(source, path.parent))
        else:
            parts.append(f"```python\n{source}\n```")
            parts += _outputs(cell["outputs"], folder / f"{path.stem}-{number}")
    (folder / f"{path.stem}.md").write_text("\n\n".join(parts) + "\n")


def _outputs(outputs: list[dict[str, Any]], name: Path) -> Iterator[str]:
    """What a cell put out, as text or as a picture in a file."""
    for index, output in enumerate(outputs):
        data = output.get("data", {})
        if "image/png" in data:
            picture = name.with_name(f"{name.name}-{index}.png")
            picture.write_bytes(base64.b64decode("".join(data["image/png"])))
            yield f"![]({picture.name})"
        elif text := "".join(output.get("text", data.get("text/plain", ""))).strip("\n"):
            yield f"```text\n{_COLORS.sub('', text)}\n```"


class _Links(HTMLParser):
    """What a page links to, and the places in it that may be linked to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.places = {""}
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Notes a tag's links and its name."""
        for name, value in attributes:
            if name in ("href", "src") and value:
                self.targets.append(urllib.parse.unquote(value))
            elif name in ("id", "name") and value:
                self.places.add(value)


def dead_links(folder: Path) -> Iterator[str]:
    """The links of a site's pages, but for those to other sites, that lead nowhere."""
    pages = {path: _Links(path.read_text()) for path in sorted(folder.rglob("*.html"))}
    for path, page in pages.items():
        if path.name == "404.html":
            continue  # its links are of the site's root, wherever that will be
        for target in page.targets:
            if urllib.parse.urlsplit(target).scheme:
                continue
            name, _, place = target.partition("#")
            found = (path.parent / name).resolve() if name else path
            if not found.exists() or (found in pages and place not in pages[found].places):
                yield f"{path.relative_to(folder)}: {target}"


if __name__ == "__main__":
    cli.run(main)

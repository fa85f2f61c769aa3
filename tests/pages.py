"""What the docs show: the pages, their blocks, and the commands in them."""

import ast
import dataclasses
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PACKAGES = ("quickdraw_tfrecords", "trainer", "tools")

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r'\]\(([^)\s]+)\)|src="([^"]+)"')


@dataclasses.dataclass(frozen=True)
class Command:
    """A command of the docs.

    Attributes:
      place: Where it stands, for the test's name.
      words: The command, without comment and redirection.
    """

    place: str
    words: tuple[str, ...]

    @property
    def program(self) -> str:
        """`quickdraw convert`, `python -m tools.benchmark_input`, or the first word."""
        if self.words[0] == "quickdraw":
            return " ".join(self.words[:2])
        return " ".join(self.words[:3] if self.words[:2] == ("python", "-m") else self.words[:1])

    @property
    def flags(self) -> dict[str, str]:
        """The flags' values by name."""
        found = [word[2:].partition("=") for word in self.words if word.startswith("--")]
        return {name: value for name, _, value in found}

    @property
    def text(self) -> str:
        return " ".join(self.words)


def blocks(page: Path, language: str) -> Iterator[str]:
    """The fenced blocks in a language."""
    for match in _BLOCK.finditer(page.read_text()):
        if match[1] == language:
            yield match[2]


def prose(page: Path) -> str:
    """A page without its blocks."""
    return _BLOCK.sub("", page.read_text())


def languages(page: Path) -> set[str]:
    return {match[1] for match in _BLOCK.finditer(page.read_text())}


def inline_code(page: Path) -> list[str]:
    return _INLINE.findall(prose(page))


def links(page: Path) -> Iterator[str]:
    return map("".join, _LINK.findall(prose(page)))


def parse(text: str, place: str) -> Iterator[Command]:
    """The commands of a shell's lines."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if ">" in words:
            words = words[: words.index(">")]
        if words:
            yield Command(place, tuple(words))


def commands_of_pages() -> Iterator[Command]:
    for page in PAGES:
        for text in blocks(page, "shell"):
            yield from parse(text, page.name)
        for text in inline_code(page):
            if re.match(r"(quickdraw|python -m|make) \w", text):
                yield from parse(text, page.name)


def commands_of_modules() -> Iterator[Command]:
    """Those that the docstrings of modules show; what is in brackets is optional."""
    for path in sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
        for line in docstring.replace("\\\n", " ").splitlines():
            if re.match(r"\s*(quickdraw [a-z]+ -|python -m )", line):
                yield from parse(re.sub(r"[][]", "", line), str(path.relative_to(ROOT)))

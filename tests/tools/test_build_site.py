"""The site is built without a warning, and its dead links are found."""

from pathlib import Path

import pytest

from quickdraw_tfrecords.base.errors import DataError
from tools import build_site

_TEXT = (".md", ".ipynb")


def test_it_is_built_of_all_pages():
    build_site.main()
    built = {path.stem for path in build_site._HTML.glob("*.html")}
    written = {
        path.stem for path in (build_site._ROOT / "docs").glob("*.*") if path.suffix in _TEXT
    }
    assert built == written | {"404", "index", "CONTRIBUTING", "CHANGELOG"}
    api = (build_site._HTML / "api.html").read_text()
    for name in ("quickdraw_tfrecords.load", "quickdraw_tfrecords.DatasetInfo", "trainer.Config"):
        assert f'id="{name}"' in api
    assert ":::" not in api


def test_every_page_is_in_the_navigation():
    navigation = (build_site._ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2]
    for path in (build_site._ROOT / "docs").glob("*.*"):
        if path.suffix in _TEXT:
            assert f": {path.stem}.md\n" in navigation, path


def test_a_dead_link_of_a_page_ends_it(monkeypatch):
    gather = build_site.gather

    def with_dead_link(folder: Path) -> None:
        gather(folder)
        with open(folder / "index.md", "a") as page:
            page.write("\n[nowhere](nowhere.md)\n")

    monkeypatch.setattr(build_site, "gather", with_dead_link)
    with pytest.raises(DataError, match="page does not exist"):
        build_site.main()


def test_dead_links_are_named(tmp_path):
    (tmp_path / "one.html").write_text(
        '<a id="here"></a><a href="#here"></a><a href="two.html#there"></a>'
        '<a href="https://example.org/"></a><img src="gone.png">'
    )
    (tmp_path / "two.html").write_text('<a href="one.html#nowhere"></a><b name="there"></b>')
    assert list(build_site.dead_links(tmp_path)) == [
        "one.html: gone.png",
        "two.html: one.html#nowhere",
    ]


@pytest.mark.parametrize(
    ("text", "moved"),
    [
        ("[a](docs/format.md#life)", "[a](format.md#life)"),
        ("[a](README.md) [b](LICENSE)", "[a](index.md) [b](LICENSE)"),
        ("[a](docs/quickstart.ipynb)", "[a](quickstart.md)"),
        ('<img src="docs/report.png">', '<img src="report.png">'),
        (
            "[a](https://example.org/docs/x.md) [b](#c)",
            "[a](https://example.org/docs/x.md) [b](#c)",
        ),
        ("see [the code](trainer/__init__.py)", "see the code"),
    ],
)
def test_links_lead_to_where_pages_are_now(text, moved):
    assert build_site._move_links(text, build_site._ROOT) == moved

"""The report's page, in a real browser; and what the trainer leaves of it at its end."""

import dataclasses
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page
from tensorboard.backend.event_processing.event_accumulator import TENSORS, EventAccumulator

from quickdraw_tfrecords.base.class_names import quickdraw_class_names
from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.base.locks import locked
from quickdraw_tfrecords.sources.synthetic import SyntheticSource
from quickdraw_tfrecords.writing import converter
from quickdraw_tfrecords.writing.config import ConvertConfig
from tests.processes import ChildProcess, train
from tests.trained import make_run
from trainer import session
from trainer.commands import report as command
from trainer.report import facts, figures, findings, page
from trainer.results import metrics, split_results
from trainer.run_directory import checkpoints, runs
from trainer.run_directory.runs import TrainedRun
from trainer.run_directory.workplace import Workplace

# Names that are markup and a formula to Matplotlib, or longer than any place for them;
# two, which are the fewest classes.
HOSTILE = ("<b title='x'>\"&amp;$x_1$", "a very " * 9 + "long name")


@pytest.fixture(scope="module")
def run(tmp_path_factory, data_dir) -> TrainedRun:
    """A run with its page."""
    run = make_run(tmp_path_factory.mktemp("runs") / "one", data_dir)
    page.make(run)
    return run


@pytest.fixture
def open_report(open_page, run) -> Callable[..., Page]:
    """Opens the page of a run, of that above if of no other."""

    def open_report(of: TrainedRun = run, **options: object) -> Page:
        return open_page(of.directory / "report" / "index.html", **options)

    return open_report


def _column(tab: Page, index: int) -> list[str]:
    return tab.locator(f"#class-table tbody tr > :nth-child({index + 1})").all_inner_texts()


def test_it_shows_the_metrics(open_report, run):
    found = split_results.find(run, "test").metrics
    tiles = open_report().locator(".tiles dd").all_inner_texts()
    expected = [f"{value:.3f}" for value in found.headline().values()]
    assert [tile.split("\n")[0] for tile in tiles] == expected


def test_it_names_the_study_only_where_the_classes_are_the_study_s(open_report, run):
    assert "study" not in open_report().locator("main").inner_text()
    request = run.open_dataset().manifest.request
    google = request | {"source": {"kind": "numpy_bitmap"}}
    info = dataclasses.replace(
        run.open_dataset(),
        manifest=dataclasses.replace(run.open_dataset().manifest, request=google),
    )
    assert findings._compare_to_study(run, info) is None
    as_the_study = dataclasses.replace(run, class_names=quickdraw_class_names())
    assert findings._compare_to_study(as_the_study, run.open_dataset()) is None  # synthetic
    assert "on other data" in findings._compare_to_study(as_the_study, info)["text"]


@pytest.mark.parametrize(
    ("said", "credit"),
    [
        ({}, "made available by Google"),
        ({"license": "CC0, by Ann"}, "Drawings: CC0, by Ann."),
        ({"class_names": ["a", "b"]}, ""),
    ],
)
def test_it_credits_whose_the_drawings_are(run, said, credit):
    info = run.open_dataset()
    assert "none is Google's" in facts.describe_run(run, info)["credit"]
    request = info.manifest.request | {"source": {"kind": "numpy_bitmap"}} | said
    info = dataclasses.replace(info, manifest=dataclasses.replace(info.manifest, request=request))
    found = facts.describe_run(run, info)["credit"]
    assert credit in found
    assert bool(found) == bool(credit)


def test_the_table_of_classes_is_sorted_by_a_click(open_report, run):
    tab = open_report()
    for index, key in ((1, float), (0, str.lower), (4, int)):
        header = tab.locator("#class-table thead th").nth(index)
        for direction in ("ascending", "descending"):
            header.locator("button").click()
            assert header.get_attribute("aria-sort") == direction
            values = [key(text) for text in _column(tab, index) if text != "–"]
            assert values == sorted(values, reverse=direction == "descending")
        assert tab.locator("#class-table [aria-sort]").count() == 1
    assert sorted(_column(tab, 0)) == sorted(run.class_names)


def test_the_table_of_classes_is_searched(open_report):
    tab = open_report()
    tab.get_by_label("Find a class").fill(" LISA ")
    assert tab.locator("#class-table tbody tr:visible th").all_inner_texts() == ["The Mona Lisa"]
    assert "1 of 5 classes" in tab.locator("#found").inner_text()
    tab.get_by_label("Find a class").fill("")
    assert tab.locator("#class-table tbody tr:visible").count() == 5


def test_the_confusion_matrix_is_read_out(open_report, run):
    tab, confusion = open_report(), split_results.find(run, "test").metrics.confusion
    tab.locator("#matrix").focus()
    rows = tab.locator(".names.rows span").all_inner_texts()
    for key in ("ArrowDown", "ArrowRight", "ArrowRight"):
        tab.keyboard.press(key)
    row, column = (run.class_names.index(rows[place]) for place in (1, 2))
    text = tab.locator("#cell").inner_text()
    assert text.startswith(f"{rows[1]}, taken for {rows[2]}: {confusion[row, column]} of 40")
    tab.locator("#confusion-field").hover(position={"x": 2, "y": 2})
    first = run.class_names.index(rows[0])
    assert f"recognized: {confusion[first, first]} of 40" in tab.locator("#cell").inner_text()


def test_the_confusion_matrix_is_zoomed(open_report):
    tab = open_report()
    field = tab.locator("#confusion-field")
    before = field.bounding_box()["width"]
    tab.get_by_label("Zoom").fill("10")
    assert field.bounding_box()["width"] == 50 != before


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_follows_the_readers_colors(open_report, scheme):
    tab = open_report(color_scheme=scheme)
    color = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    paper = bytes.fromhex(figures.PALETTE["paper"][scheme == "dark"][1:])
    assert color == f"rgb({', '.join(map(str, paper))})"


def test_every_text_has_contrast():
    """WCAG 2.1, 1.4.3: at least 4.5 to 1."""

    def luminance(color: str) -> float:
        channels = np.frombuffer(bytes.fromhex(color[1:]), np.uint8) / 255
        linear = np.where(
            channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4
        )
        return float(linear @ [0.2126, 0.7152, 0.0722])

    for theme in (0, 1):
        for text in ("ink", "muted", "accent", "second", "right", "wrong"):
            for ground in ("paper", "panel"):
                pair = (figures.PALETTE[name][theme] for name in (text, ground))
                low, high = sorted(map(luminance, pair))
                assert (high + 0.05) / (low + 0.05) >= 4.5, (text, ground, theme)


@pytest.mark.parametrize("width", [320, 390, 1200])
def test_nothing_sticks_out_to_the_side(open_report, width):
    tab = open_report(width=width)
    assert tab.evaluate("document.documentElement.scrollWidth") == width


def test_pictures_are_there_and_said_in_words(open_report):
    for picture in open_report().locator("img").all():
        assert picture.get_attribute("alt")
        assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0


def test_it_is_whole_without_scripts(open_report):
    tab = open_report(java_script_enabled=False)
    assert tab.locator("#class-table tbody tr").count() == 5
    assert not tab.locator(".search").is_visible()
    assert tab.locator(".card").count() > 12


def test_a_drawing_has_its_guesses_and_its_row_in_the_source(open_report, run):
    found = split_results.find(run, "test").predictions
    worst = int(np.argmax(np.where(found.is_right, -1, found.probabilities[:, 0])))
    name = run.class_names[found.labels[worst]]
    card = open_report().locator("section", has_text="Most confident").locator(".card").first
    assert card.locator("figcaption").inner_text() == f"{name}\nrow {found.source_rows[worst]:,}"
    assert card.get_by_role("img").get_attribute("alt").startswith(f"Drawing of {name}, row ")
    for place, line in enumerate(card.locator("li").all()):
        guess, share = found.classes[worst, place], found.probabilities[worst, place]
        is_right = guess == found.labels[worst]
        mark = "✓\xa0" if is_right else "" if place else "✗\xa0"
        texts = line.locator("span:not(.bar)").all_inner_texts()
        assert texts == [f"{mark}{run.class_names[guess]}", f"{share:.1%}".replace("%", " %")]
        assert (line.get_attribute("class") == "right") == is_right


def _convert(data_dir: Path, names: tuple[str, ...], pool: object, per_class: int = 20) -> Path:
    converter.convert(
        SyntheticSource(names), data_dir, ConvertConfig(per_class=per_class), pool=pool
    )
    return data_dir


def test_names_are_text_whatever_is_in_them(open_report, tmp_path, pool):
    run = make_run(tmp_path / "<i>run&amp;", _convert(tmp_path / "data", HOSTILE, pool))
    page.make(run)
    tab = open_report(run, width=390)
    assert sorted(_column(tab, 0)) == sorted(HOSTILE)
    assert tab.locator("h1").inner_text() == "<i>run&amp;"
    assert tab.locator("h1 i").count() == tab.locator("b[title=x]").count() == 0
    assert tab.evaluate("document.documentElement.scrollWidth") == 390
    _assert_right_for(tab, len(HOSTILE))


@pytest.mark.slow
def test_it_is_right_for_345_classes(open_report, tmp_path, pool):
    names = tuple(f"class {index}" for index in range(345))
    run = make_run(tmp_path / "run", _convert(tmp_path / "data", names, pool, per_class=10))
    assert page.make(run).stat().st_size < 2**20
    _assert_right_for(open_report(run), 345)


def _assert_right_for(tab: Page, classes: int) -> None:
    assert tab.locator("#class-table tbody tr").count() == classes
    assert tab.locator(".shares li").count() == classes
    assert tab.locator(".guesses").first.locator("li").count() == min(classes, 3)
    assert tab.locator("#confusion-field img").get_attribute("width") == str(classes)


def test_a_class_without_drawings_has_no_accuracy_and_rows_may_be_unknown(
    open_report, run, tmp_path
):
    found, info = split_results.find(run, "test"), run.open_dataset()
    labels = np.where(found.predictions.labels == 2, 3, found.predictions.labels)
    rows = np.full_like(found.predictions.source_rows, -1)  # another tool's data set
    others = dataclasses.replace(found.predictions, labels=labels, source_rows=rows)
    found = dataclasses.replace(
        found, predictions=others, metrics=metrics.compute(others, run.class_names)
    )
    gallery = findings.gather_gallery(run, info, found)
    shown = facts.describe_run(run, info) | findings.describe_results(run, info, found, gallery)
    path = tmp_path / "report" / "index.html"
    path.parent.mkdir()
    path.write_text(page.render("report.html", shown))
    tab = open_report(dataclasses.replace(run, directory=tmp_path))
    assert tab.locator(".shares li").count() == 4
    assert "row not known" in tab.locator(".card").first.inner_text()
    cells = tab.locator("#class-table tbody tr", has_text=run.class_names[2]).locator("td")
    assert cells.all_inner_texts()[1] == "–"
    assert cells.all_inner_texts()[3] == "0"
    recall = tab.locator("#class-table thead th").nth(2)
    for _ in range(2):  # what has no value stays at the end
        recall.locator("button").click()
        assert _column(tab, 2)[-1] == "–"


def test_of_a_run_without_a_checkpoint_it_shows_what_there_is(open_report, tmp_path, data_dir):
    run = make_run(tmp_path / "run", data_dir, epochs=0)
    page.make(run)
    tab = open_report(run)
    text = tab.locator("main").inner_text()
    assert "No result yet." in text
    assert "No epoch has been finished yet" in text
    assert tab.locator("section").count() == 2


@pytest.mark.slow
def test_of_a_run_interrupted_in_its_first_epoch_it_has_results_but_no_curves(
    open_report, tmp_path, run
):
    other = shutil.copytree(run.directory, tmp_path / "run")
    (other / "history.csv").unlink()
    (best,) = checkpoints.best(other, keep=1).paths()
    arrays, _ = checkpoints.read(best)
    best.unlink()
    checkpoints.latest(other, keep=1).save(3, arrays, {"progress": {"epoch": 0}})
    interrupted = runs.open_run(other)
    page.make(interrupted)
    text = open_report(interrupted).locator("main").inner_text()
    assert "before the first epoch’s end" in text.replace("'", "’")
    assert "No epoch has been finished yet" in text


def test_a_single_epoch_has_curves(tmp_path, data_dir):
    run = make_run(tmp_path / "run", data_dir, epochs=1)
    assert facts.describe_run(run, run.open_dataset())["curves"].keys() == {
        "loss", "accuracy", "learning_rate",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("flags", "best"),
    [({}, 2), ({"monitor": "validation_top1"}, 1), ({"train_sides": (20, 28), "epochs": 4}, 3)],
)
def test_the_best_epoch_is_marked(run, flags, best):
    """The second has the least loss, all the same accuracy; the third is at another side."""
    config = dataclasses.replace(run.config, **flags)
    shown = facts.describe_run(dataclasses.replace(run, config=config), run.open_dataset())
    assert shown["best_epoch"] == best
    assert f"The best is epoch {best}," in shown["training_text"]
    is_smaller = "Epochs 1 to 2 were trained, and validated, on drawings made smaller: 20 pixels"
    assert (is_smaller in shown["training_text"]) is ("train_sides" in flags)


def test_the_reductions_are_found(run):
    history = run.history()
    assert facts.reductions(run, history) == [3]
    cosine = dataclasses.replace(run, config=dataclasses.replace(run.config, schedule="cosine"))
    assert facts.reductions(cosine, history) == []


def test_a_damaged_history_is_one_clear_line(tmp_path, run):
    other = shutil.copytree(run.directory, tmp_path / "run")
    (other / "history.csv").write_text("epoch,validation_loss\n1,x\n")
    with pytest.raises(DataError, match=r"history\.csv: not a history of the trainer"):
        page.make(runs.open_run(other))


def test_it_lists_the_layers_of_the_model(run, tmp_path):
    """As Keras' own summary does."""
    model = run.load_model()
    shown = {
        name: parameters
        for name, *_, parameters in facts.describe_run(run, run.open_dataset())["layers"]
    }
    assert shown == {layer.name: layer.count_params() for layer in model.layers}
    assert sum(shown.values()) == model.count_params()
    text = page.make(run).read_text()
    assert f"The layers of compact_cnn: {model.count_params():,} parameters" in text


def test_a_model_that_is_not_known_here_has_no_layers_to_list(run, monkeypatch):
    config = dataclasses.replace(run.config, model="nowhere.to.be.found")
    unknown = dataclasses.replace(run, config=config)
    assert facts.describe_run(unknown, run.open_dataset())["layers"] == []


def _pictures(run_dir: Path) -> dict[str, int]:
    events = EventAccumulator(str(run_dir / "tensorboard"), {TENSORS: 0}).Reload()
    tags = [tag for tag in events.Tags()["tensors"] if tag.startswith("report/")]
    return {tag: len(events.Tensors(tag)) for tag in tags}


def test_its_pictures_are_in_tensorboard_once(run):
    page.make(run)  # once more
    names = ("confusion_matrix", "random_guesses", "calibration")
    assert _pictures(run.directory) == {f"report/{name}": 1 for name in names}


def test_while_it_trains_its_curves_are_left_alone(run, tmp_path, monkeypatch, capsys):
    other = runs.open_run(shutil.copytree(run.directory, tmp_path / "run"))
    shutil.rmtree(other.directory / "tensorboard")
    monkeypatch.setattr(command.run_flags, "open_run", lambda *_: other)
    with locked(other.directory, work="training run"):
        command.main()
    path, line = capsys.readouterr().out.splitlines()
    assert Path(path).exists()
    assert "it is being trained" in line
    assert not (other.directory / "tensorboard").exists()
    command.main()
    assert _pictures(other.directory)


@pytest.mark.slow
def test_training_ends_with_the_report(tmp_path, data_dir):
    """On two devices; what it says of the test is what the trainer said."""
    run_dir = tmp_path / "run"
    flags = [
        f"--data_dir={data_dir}", f"--run_dir={run_dir}", "--epochs=1", "--batch_size=64",
        "--report", "--strategy=mirrored", "--precision=float32", "--augment=shift,zoom",
    ]  # fmt: skip
    process = ChildProcess(train, flags, output=tmp_path / "process", devices=2)
    assert process.wait() == 0, process.stderr
    assert f"report: {run_dir}/report/index.html" in process.stdout
    said = re.search(r"test loss ([\d.]+)  top1 ([\d.]+)  top3 ([\d.]+)", process.stdout)
    run = runs.open_run(run_dir)
    found = split_results.find(run, "test").metrics
    assert [float(value) for value in said.groups()] == pytest.approx(
        [found.loss, found.top1, found.top3], abs=2e-4
    )
    assert len(_pictures(run_dir)) == 3
    flagfile = facts.describe_run(run, run.open_dataset())["flagfile"]
    assert sorted(flagfile.splitlines()) == sorted((run_dir / "flags.txt").read_text().splitlines())


def test_a_report_that_fails_does_not_fail_the_run(tmp_path, data_dir, monkeypatch, capsys):
    def fail(_: object) -> None:
        raise RuntimeError("no space\nleft")

    monkeypatch.setattr(page, "make", fail)
    session.make_report(make_run(tmp_path, data_dir), Workplace(tmp_path, is_chief=True))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("warning: the run is complete")
    assert captured.err.count("\n") == 1
    assert f"(RuntimeError: no space left); quickdraw report --run_dir={tmp_path}" in (captured.err)

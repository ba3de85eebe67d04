"""The page of a run: whole, closed in itself, safe, and there even when half of the run is not."""

import json
import re
import shutil
from dataclasses import asdict, dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from vision_train.artefacts import Curve, ImageGrid, Matrix, Metric, Table, write_artefact
from vision_train.report import write_report
from vision_train.report.headline import headline_tiles, other_figures
from vision_train.report.record import RunRecord

VOID = {"meta", "img", "br", "wbr", "link", "input", "hr"}
SELF_CLOSED = {"rect", "line", "path", "circle", "polygon", "image"}
ACCURACY = Metric("accuracy", "accuracy", "percent", is_proportion=True)
HOSTILE = "<script>alert('x')</script>\"&"


@dataclass
class Page(HTMLParser):
    """What a browser would find: element names, attributes, text; unbalanced elements raise."""

    source: str
    elements: list[tuple[str, dict]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)

    def __post_init__(self):
        super().__init__()
        self.feed(self.source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        assert tag in SELF_CLOSED
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.elements if name == tag]


def report(run: Path) -> Page:
    path = write_report(run)
    assert path == run / "report.html"
    return Page(path.read_text(encoding="utf-8"))


def describe(run: Path, *metrics: Metric) -> None:
    (run / "metrics.json").write_text(json.dumps([asdict(metric) for metric in metrics]), encoding="utf-8")


def section_titles(page: Page) -> list[str]:
    return [attributes["id"] for attributes in page.all("section")]


def test_finished_run_has_every_section(digits_run):
    page = report(digits_run)
    titles = ["learning-curves", "results", "pictures", "starting-weights", "figures", "files", "recipe", "environment"]
    assert section_titles(page) == titles
    links = [link["href"] for link in page.all("a")]
    assert links[: len(titles)] == [f"#{title}" for title in titles]
    assert {"metrics.jsonl", "summary.json", "artefacts/"} <= set(links[len(titles) :])
    assert "A small ViT on the bundled digits" in page.text
    assert "run quickstart/0 · seed 0" in page.text
    assert "has not finished" not in page.text
    for title in ("Loss", "Accuracy", "Learning rate", "Confusion on test", "Most frequent confusions", "1 min 12 s"):
        assert title in page.text


def test_what_concerns_unlabelled_samples_has_a_section_of_its_own(digits_run):
    lines = [
        {"phase": "fit", "epoch": epoch, "step": 10 * epoch, "val/pool_accepted": 0.5, "val/pool_loss_ratio": 0.25}
        for epoch in range(1, 4)
    ]
    with (digits_run / "metrics.jsonl").open("a") as log:
        log.writelines(json.dumps(line) + "\n" for line in lines)
    curve = Curve("pool_health", "Health of the teacher", "step", "share", [1, 2], {"accepted": [float("nan"), 0.5]})
    signs = Table("pool_signs", "What was wrong", ["figure", "what mends it"], [["agreement", "lower optim.lr"]])
    classes = Table("pool_classes", "Classes of pseudo-labels", ["class", "share"], [["cat", 0.5]])
    for artefact in (curve, signs, classes):
        write_artefact(digits_run / "artefacts", artefact)
    page = report(digits_run)
    assert "unlabelled-samples" in section_titles(page)
    section = page.source[page.source.index('id="unlabelled-samples"') : page.source.index('id="pictures"')]
    for told in ("Health of the teacher", "lower optim.lr", "Classes of pseudo-labels", "Loss of unlabelled over"):
        assert told in section
        assert page.source.count(told) == section.count(told), f"{told}: nowhere else"
    assert "Pool accepted" not in page.text, "drawn together with the other shares"


@pytest.mark.parametrize("run", ["digits_run", "two_phase_run"])
def test_page_needs_nothing_from_outside(run, request):
    page = report(request.getfixturevalue(run))
    for tag, attributes in page.elements:
        for name in ("src", "href", "data", "action", "poster", "srcset"):
            if name in attributes:
                inside = tag == "a" and not re.match(r"[a-z]+:|/", attributes[name])  # a file of the run, on demand
                assert inside or attributes[name].startswith("data:image/"), (tag, name)
        assert not [name for name in attributes if name.startswith("on")]
    assert not re.search(r"https?://|@import|url\((?!#)", page.source)
    assert [tag for tag, _ in page.elements].count("script") == 1
    (policy,) = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]
    assert policy.startswith("default-src 'none'")


def test_pictures_have_alternatives_and_drawings_labels(digits_run):
    page = report(digits_run)
    assert len(page.all("img")) == 24
    assert all(image["alt"].strip() for image in page.all("img"))
    assert all(drawing["role"] == "img" and drawing["aria-label"] for drawing in page.all("svg"))
    assert page.source.count("<table>") == page.source.count("<caption>") > 0


def test_headline_carries_wilson_interval(digits_run):
    describe(digits_run, ACCURACY)
    page = report(digits_run)
    accuracy = json.loads((digits_run / "summary.json").read_text())["test/accuracy"]
    assert accuracy == pytest.approx(290 / 300)
    assert "Test accuracy 96.7 % 95 % interval 94.0 to 98.2 %, 300 images" in page.text


def test_interval_is_left_out_without_the_number_of_items(digits_run):
    describe(digits_run, ACCURACY)
    (digits_run / "artefacts" / "test_summary.json").unlink()
    assert "Test accuracy 96.7 %" in report(digits_run).text
    assert "95 % interval" not in report(digits_run).text


def test_metrics_that_nothing_describes_are_shown_by_name_as_plain_numbers(digits_run):
    page = report(digits_run)
    assert not (digits_run / "metrics.json").exists()
    assert "Test accuracy 0.9667" in page.text
    assert "Test accuracy top5 1" in page.text
    assert "95 % interval" not in page.text
    assert "Could not be read" not in page.text


def test_the_best_epoch_is_the_one_that_was_kept_counted_from_one(digits_run):
    assert "best at epoch 53" in report(digits_run).text  # summary.json counts from 0


def test_phases_are_told_apart(two_phase_run):
    page = report(two_phase_run)
    assert "Phase pretrain: droppos/pretrain" in page.text
    assert "Phase fit" in page.text
    assert "What the checkpoint filled, phase pretrain" in page.text
    assert "phases/pretrain/recipe.yaml" in page.text
    assert page.text.index("Phase pretrain") < page.text.index("Phase fit")


def test_the_time_of_all_phases_stands_beside_that_of_the_last(digits_run):
    summary = json.loads((digits_run / "summary.json").read_text())
    for whole, said in ((71.8, False), (107.7, True)):
        (digits_run / "summary.json").write_text(json.dumps({**summary, "run/seconds": whole}))
        page = report(digits_run)
        assert ("Run time 1 min 48 s all phases" in page.text) == said
        assert ("the last phase" in page.text) == said


def test_two_hundred_classes_stay_small(two_phase_run):
    page = report(two_phase_run)
    assert len(page.source) < 600_000
    assert len(page.all("mask")) == 2
    assert "Most frequent confusions" in page.text


@pytest.mark.parametrize(
    "missing",
    ["metrics.jsonl", "summary.json", "recipe.yaml", "environment.json", "artefacts", "artefacts/test_mistakes-3.png"],
)
def test_missing_file_costs_its_part_only(digits_run, missing):
    path = digits_run / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    page = report(digits_run)
    assert "quickstart" in page.text
    assert len(section_titles(page)) >= 4
    assert ("has not finished" in page.text) == (missing == "summary.json")
    assert ("Could not be read: artefacts/test_mistakes.json" in page.text) == missing.endswith(".png")


def test_empty_directory(tmp_path):
    page = report(tmp_path)
    assert "has not finished: it wrote no summary and no metrics" in page.text
    assert section_titles(page) == []


@pytest.mark.parametrize("broken", ["summary.json", "recipe.yaml", "environment.json", "artefacts/test_confusion.json"])
def test_broken_file_is_named(digits_run, broken):
    (digits_run / broken).write_text("[1, {", encoding="utf-8")
    assert f"Could not be read: {broken}" in report(digits_run).text


def test_interrupted_run_says_how_far_it_came(digits_run):
    (digits_run / "summary.json").unlink()
    lines = (digits_run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (digits_run / "metrics.jsonl").write_text("".join(lines[:30]) + lines[30][:20])
    page = report(digits_run)
    assert "from epoch 6 of 60 in phase fit, 7.2 s after the start" in page.text
    assert "Could not be read" not in page.text
    assert "learning-curves" in section_titles(page)


def test_one_epoch_and_values_that_are_not_finite(digits_run, write_metrics):
    write_metrics(
        digits_run / "metrics.jsonl",
        [
            {"phase": "fit", "epoch": 0, "step": 10, "time": 1.0, "train/loss": None, "lr": 0.001},
            {"phase": "fit", "epoch": 0, "step": 20, "time": 2.0, "train/loss": 1.0, "lr": 0.001},
            {"phase": "fit", "epoch": 0, "step": 20, "time": 2.1, "val/loss": float("nan"), "val/accuracy": None},
        ],
    )
    (digits_run / "summary.json").write_text('{"test/accuracy": NaN, "train/seconds": Infinity}')
    page = report(digits_run)
    assert "Test accuracy NaN" in page.text
    assert "train is not finite here" in page.text
    assert "no finite value" in page.text


def test_strings_from_files_never_become_markup(tmp_path, write_metrics):
    (tmp_path / "recipe.yaml").write_text(
        json.dumps({"name": HOSTILE, "description": HOSTILE, "seed": HOSTILE}), encoding="utf-8"
    )
    (tmp_path / "environment.json").write_text(json.dumps({HOSTILE: HOSTILE, "packages": {HOSTILE: HOSTILE}}))
    (tmp_path / "summary.json").write_text(json.dumps({f"test/{HOSTILE}": 0.5, "test/accuracy": 0.5}))
    line = {"phase": HOSTILE, "epoch": 0, "step": 1, f"val/{HOSTILE}": 0.5, f"lr/{HOSTILE}": 1}
    write_metrics(tmp_path / "metrics.jsonl", [line, {**line, "phase": "fit"}])
    phase = tmp_path / "phases" / "fit"
    phase.mkdir(parents=True)
    facts = {"recipe": HOSTILE, "figures": {HOSTILE: 1}, "skipped": [HOSTILE]}
    (phase / "phase.json").write_text(json.dumps(facts))
    (phase / "recipe.yaml").write_text(f"key: {HOSTILE}\n{HOSTILE} # {HOSTILE}")
    texts = {"title": HOSTILE, "note": HOSTILE}
    square = {"rows": [HOSTILE, "b"], "columns": [HOSTILE, "b"], "values": [[1, 2], [3, 4]]}
    many = {"rows": ["a"] * 30, "columns": [HOSTILE] * 30, "values": np.eye(30).tolist()}
    for artefact in (
        Table("t_checkpoint", columns=[HOSTILE], rows=[[HOSTILE]], **texts),
        Table("test_summary", columns=["metric", HOSTILE], rows=[[HOSTILE, 7]], **texts),
        Curve("c", x_label=HOSTILE, y_label=HOSTILE, x=[0, 1], lines={HOSTILE: [1, 2]}, **texts),
        Matrix("m", row_label=HOSTILE, column_label=HOSTILE, **square, **texts),
        Matrix("many", row_label=HOSTILE, column_label=HOSTILE, **many, **texts),
        ImageGrid("g", images=[np.zeros((4, 4, 3), np.uint8)], captions=[HOSTILE], **texts),
    ):
        write_artefact(tmp_path / "artefacts", artefact)
    page = report(tmp_path)
    assert [tag for tag, _ in page.elements].count("script") == 1
    assert "alert" not in "".join(re.findall(r"<script>(.*?)</script>", page.source, re.S))
    assert page.text.count("alert('x')") > 20


def test_writing_twice_gives_the_same_page(digits_run):
    first = write_report(digits_run).read_bytes()
    assert write_report(digits_run).read_bytes() == first


def test_metrics_are_shown_as_the_run_describes_them(digits_run):
    describe(
        digits_run,
        Metric("accuracy", "hits", "percent", is_proportion=True),
        Metric("accuracy_top5", "top", shown="never"),
    )
    page = report(digits_run)
    assert "Test hits 96.7 % 95 % interval 94.0 to 98.2 %, 300 images" in page.text
    assert "Test calibration error 0.0134" in page.text, "one that is not described is a plain number"
    assert "Val hits" in page.text
    assert "Test top" not in page.text
    assert "Accuracy top5" not in page.text


@pytest.mark.parametrize(
    "content",
    ["[1, {", '[{"name": "accuracy"}]', '[{"title": "hits"}]', "3", '[{"name": "a", "title": "A", "format": "x"}]'],
)
def test_broken_descriptions_are_named(digits_run, content):
    (digits_run / "metrics.json").write_text(content, encoding="utf-8")
    assert "Could not be read: metrics.json" in report(digits_run).text


def test_an_artefact_of_an_unknown_type_is_named(digits_run):
    content = {"kind": "Hologram", "name": "test_hologram"}
    (digits_run / "artefacts" / "test_hologram.json").write_text(json.dumps(content), encoding="utf-8")
    page = report(digits_run)
    assert "artefacts/test_hologram.json: Hologram" in page.text
    assert "Could not be read" not in page.text


def test_keys_values_and_comments_of_the_recipe_have_colours(digits_run):
    page = report(digits_run)
    classes = [set(span.get("class", "").split()) for span in page.all("span")]
    style = page.source.partition("</style>")[0]
    for kind in ("nt", "l", "nv", "c1"):
        assert any(kind in names for names in classes), kind
        assert re.search(rf"\.{kind}\b", style), kind


@pytest.mark.parametrize(("share", "told"), [(0.0, False), (0.95, True)])
def test_weights_that_matched_are_told_where_there_was_a_checkpoint(share: float, told: bool):
    record = RunRecord(Path("run"), summary={"checkpoint/matched_share": share, "train/steps": 800})
    page = {tile.label for tile in headline_tiles(record)} | other_figures(record).keys()
    assert any("matched" in title for title in page) == told
    assert any("steps" in title for title in page)

"""The page and the files beside it: whole, self-contained, nothing unescaped."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mess_tf.commands.report import render, report
from mess_tf.core.configuration import Configuration, ExitChoice
from mess_tf.core.errors import UsageError
from mess_tf.core.routing import exit_position_per_image
from mess_tf.core.statistics import Statistics
from mess_tf.reporting.figures import write
from mess_tf.reporting.gallery import choose_images
from mess_tf.reporting.page.axes import log_ticks, ticks
from mess_tf.runtime import piece_runner as runner
from tests.support.report_run import NAMES, FakeRun, FakeRunner, make_statistics

VOID = {"meta", "link", "img", "br", "hr", "input"}
FIGURES = ("images", "mean_ms", "p90_ms", "miou", "drop_pp", "exit_rates")


class Page(HTMLParser):
    """Holds a page's text and addresses; fails on tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


@pytest.fixture(scope="module")
def fast() -> Iterator[pytest.MonkeyPatch]:
    """No pieces are run, and no files of figures are drawn, which takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "PieceRunner", FakeRunner)
        patch.setattr(write, "write_figures", lambda *_: [])
        patch.setattr(write, "write_side_by_side", lambda *_: [])
        yield patch


@pytest.fixture
def fake(tmp_path: Path, fast: pytest.MonkeyPatch) -> FakeRun:
    return FakeRun(tmp_path / "run")


@dataclass(frozen=True)
class Whole:
    """A run with everything, and its page; not to be written into."""

    run: FakeRun
    raw: str
    page: Page
    views: list[dict[str, Any]]
    stops: list[dict[str, Any]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, fast: pytest.MonkeyPatch) -> Whole:
    run = FakeRun(tmp_path_factory.mktemp("whole") / "run").everything()
    raw = Path(report(run.folder)["report"]).read_text(encoding="utf-8")
    data = data_of(raw)
    return Whole(run, raw, Page(raw), data["targets"][0]["views"], data["stops"])


def data_of(raw: str) -> dict[str, Any]:
    """The figures that the page's script reads."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', raw)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def page_of(fake: FakeRun) -> Page:
    return Page(Path(report(fake.folder)["report"]).read_text(encoding="utf-8"))


def test_the_page_tells_the_headline(whole: Whole) -> None:
    text = whole.page.text
    assert "1.95× faster at −2.34 pp" in text and "1.00× as fast at ±0.00 pp" in text
    assert "5.38 ms per image on average instead of the final exit's 10.5 ms" in text
    assert "on 4 images that the search never saw" in text
    assert "✓ met on the report part: lowest latency with mIoU drop ≤ 3 pp" in text
    assert "✗ NOT MET on the report part: lowest latency with mIoU drop ≤ 1 pp" in text
    assert "exit 1 fcn_r1_b0 leaves at mean ≥ 0.8 (75%) › exit 2 fcn_r1_b0" in text
    assert "all 8 images left at the exit that the search said" in text
    assert "+5.0 %" in text  # 6.3 ms measured against 6.0 ms at the present speed
    assert "report part 4 images of 2 groups" in text


def test_the_page_needs_nothing_from_elsewhere(whole: Whole) -> None:
    page = whole.page
    for _, attributes in page.tags:
        for name in ("src", "href", "srcset", "action", "data"):
            address = attributes.get(name) or ""
            assert not address or address.startswith(("data:image/", "#")), address
    text = whole.raw
    assert "@import" not in text and "url(" not in text
    assert not re.search(r"https?://|[\"'(]//", text)
    (policy,) = (
        attributes["content"]
        for tag, attributes in page.tags
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None and policy.startswith("default-src 'none'; img-src data:")


def test_names_from_files_are_escaped(whole: Whole) -> None:
    page, raw = whole.page, whole.raw
    assert "<b>" not in raw and "<1>" not in raw
    assert "&lt;b&gt;sky&lt;/b&gt;" in raw
    assert "<b>sky</b>, road & kerb" in page.text
    assert "block_<1>" in page.text and "Chip <1>" in page.text


@pytest.mark.parametrize("steps", range(7))
def test_an_unfinished_run_has_a_page_too(fake: FakeRun, steps: int) -> None:
    fake.train()
    for step in ("compile", "evaluate", "profile", "search", "export", "check")[:steps]:
        getattr(fake, step)()
    result = report(fake.folder)
    page = Page(Path(result["report"]).read_text(encoding="utf-8"))
    assert ("Not there yet" in page.text) == bool(result["missing"])
    for item in result["missing"]:
        assert item["command"] in page.text
        assert item["command"] in render(result)


def test_drawn_images_are_said_to_be_drawn(tmp_path: Path, fake: FakeRun) -> None:
    synthetic = "Synthetic data."
    assert synthetic not in page_of(fake.train()).text
    assert synthetic in page_of(FakeRun(tmp_path / "drawn", drawn=True).train()).text


def test_the_host_is_said_to_be_no_phone(fake: FakeRun) -> None:
    words = "Measured on this computer, not on a phone."
    assert words not in page_of(fake.train().compile().evaluate()).text
    assert words in page_of(fake.profile()).text


def test_the_front_is_drawn_whole(whole: Whole) -> None:
    found = re.search(r'<svg class="front".*?</svg>', whole.raw, re.S)
    assert found is not None
    svg = ElementTree.fromstring(found[0])
    dots = [c for c in svg.iter("circle") if "dot" in c.get("class", "").split()]
    views = whole.views
    assert [v["name"] for v in views] == ["front 2", "drop3", "drop1"]
    assert sorted(int(d.get("data-view", "")) for d in dots) == [0, 0, 1, 1, 2, 2]
    for dot in dots:
        title = dot.find("title")
        view = views[int(dot.get("data-view", ""))]
        assert title is not None and title.text is not None
        assert title.text.startswith(f"{view['name']}: ")
        assert 0 < float(dot.get("cx", "")) < 640 and 0 < float(dot.get("cy", "")) < 420
    assert any(path.get("class") == "final" for path in svg.iter("path"))
    # Faster is further left, and the better point is higher up.
    place = {
        float(d.get("cx", "")): float(d.get("cy", ""))
        for d in dots
        if "rep" in d.get("class", "")
    }
    (_, fast), (_, good) = sorted(place.items())
    assert good < fast


def test_every_configuration_has_its_command_to_copy(whole: Whole) -> None:
    for view in whole.views:
        assert view["command"] in whole.page.text
    assert whole.views[0]["command"].startswith("mess search ")
    assert " && mess export " in whole.views[0]["command"]
    assert whole.views[1]["command"].startswith("mess export ")


def test_the_page_holds_what_the_search_found(whole: Whole) -> None:
    views = {view["name"]: view for view in whole.views}
    folder = whole.run.run.search("host", "int8")
    chosen = json.loads((folder / "chosen.json").read_text(encoding="utf-8"))
    for result in chosen["results"]:
        view = views[result["name"]]
        for part in ("calibration", "report"):
            told = result["chosen"][part]
            assert {k: view[part][k] for k in FIGURES} == {k: told[k] for k in FIGURES}
        exits = [(e["exit"], e["head"]) for e in result["chosen"]["configuration"]]
        assert [(e["exit"], e["head"]) for e in view["exits"]] == exits
    with (folder / "pareto.csv").open(newline="") as file:
        last = list(csv.DictReader(file))[-1]
    assert views["front 2"]["report"]["mean_ms"] == float(last["report_mean_ms"])
    assert views["front 2"]["calibration"]["drop_pp"] == float(last["drop_pp"])


def test_the_slider_stops_where_the_best_choice_changes(whole: Whole) -> None:
    drops = [stop["drop_pp"] for stop in whole.stops]
    assert drops == sorted(drops) and drops[0] == 0.0
    for stop in whole.stops:
        (index,) = stop["views"]
        shown = whole.views[index]["calibration"]
        allowed = [
            v["calibration"]["mean_ms"]
            for v in whole.views
            if v["calibration"]["drop_pp"] <= stop["drop_pp"]
        ]
        assert shown["mean_ms"] == min(allowed)
    # Both answers are the same configuration: there is one more place to stop.
    assert len(whole.stops) == 2


def test_progressive_outputs_frame_the_taken_exit(whole: Whole) -> None:
    page, views = whole.page, whole.views
    framed = [t for t, a in page.tags if t == "figure" and a.get("class") == "taken"]
    # Four images on the report part, and each leaves once.
    assert len(framed) == 4 * len(views)
    # On r0 either class has 44 of 50 pixels right: 44 / (50 + 50 - 44).
    assert "exit 1: mIoU 79%, pAcc 88% · leaves here" in page.text
    assert "exit 1: mIoU 43%, pAcc 60% exit 2" in page.text
    assert "exit 2: mIoU 67%, pAcc 80% · leaves here" in page.text
    assert "this data set has no background class to leave out" in page.text


def test_confidences_stand_beside_their_maps(whole: Whole) -> None:
    page = whole.page
    sure = np.exp(1) / (1 + np.exp(1))  # the early exit's logits are 1 and 0
    assert f"exit 1: mean {sure:.3f}, Eq. 7 0.000" in page.text
    assert "share of cells whose top-1 probability is at least 0.9" in page.text
    used = [a["href"] for t, a in page.tags if t == "use"]
    there = {"#" + str(a["id"]) for t, a in page.tags if t == "image"}
    assert used and set(used) == there


def test_predicted_latencies_are_marked(fake: FakeRun) -> None:
    words = "Some latencies are predicted, not measured."
    assert words not in page_of(fake.everything()).text
    path = fake.run.search("host", "int8") / "chosen.json"
    chosen = json.loads(path.read_text(encoding="utf-8"))
    chosen["results"][0]["predicted"] = {"head_1_fcn_r1_b0": [0.5, 2.0]}
    path.write_text(json.dumps(chosen), encoding="utf-8")
    text = page_of(fake).text
    assert words in text
    assert "the latency of head_1_fcn_r1_b0 (likely 0.500 ms to 2.00 ms)" in text


def test_files_are_told_by_their_cards(whole: Whole) -> None:
    text = whole.page.text
    assert "linked, thresholds as input int8 32×48×3 int8 logits 8×12×2" in text
    assert "weights: int8 1.20 MB, float32 12 bytes softmax: decides" in text


def test_runs_are_compared_on_one_page(fake: FakeRun, tmp_path: Path) -> None:
    other = FakeRun(tmp_path / "other" / "again").everything()
    fake.everything()
    raw = Path(report(fake.folder, others=[other.folder])["report"]).read_text("utf-8")
    data, page = data_of(raw), Page(raw)
    labels = [target["label"] for target in data["targets"]]
    assert labels == ["int8 on host, run", "int8 on host, again"]
    assert "All compared" in page.text and "Runs side by side" in page.text
    assert all(len(stop["views"]) == 2 for stop in data["stops"])
    # The same images in the same order: one name per run and place.
    shots = [a["id"] for t, a in page.tags if t == "image" and a["id"][-2:] == "-0"]
    assert shots == ["p0-int8-0", "p1-int8-0"]
    with pytest.raises(UsageError, match="given twice"):
        report(fake.folder, others=[fake.folder / ".." / "run"])


def test_lost_images_cost_the_pictures_only(fake: FakeRun) -> None:
    fake.everything()
    for file in (fake.folder.parent / "data" / "images" / "val").iterdir():
        file.unlink()
    page = page_of(fake)
    assert "Sample images: " in page.text and "1.95× faster" in page.text


def test_another_place_for_the_page(fake: FakeRun, tmp_path: Path) -> None:
    target = tmp_path / "new" / "page.html"
    assert report(fake.train().folder, output=target)["report"] == str(target)
    assert target.is_file() and not fake.run.report.exists()


@given(st.integers(1, 6), st.floats(0.4, 0.95))
def test_images_go_from_easy_to_hard(count: int, threshold: float) -> None:
    statistics = make_statistics("int8")
    configuration = Configuration(
        (ExitChoice(1, "fcn_r1_b0", "mean", threshold), ExitChoice(2, "fcn_r1_b0"))
    )
    chosen = choose_images(statistics, configuration, exit_position_per_image, count)
    places = exit_position_per_image(statistics, configuration)
    reported = [i for i, name in enumerate(NAMES) if name[0] == "r"]
    assert len(chosen) == len({c.index for c in chosen}) == min(count, len(reported))
    assert all(c.index in reported and c.place == places[c.index] for c in chosen)
    sure = statistics.confidence["mean"][:, 0]
    ease = [(c.place, -sure[c.index]) for c in chosen]
    assert ease == sorted(ease)
    if count > 1:
        assert {c.place for c in chosen} == {int(places[i]) for i in reported}


@given(st.floats(0, 1e4), st.floats(1e-3, 1e4))
def test_ticks_are_even_and_cover_the_values(low: float, width: float) -> None:
    marks = ticks(low, low + width)
    steps = np.diff(marks)
    assert 2 <= len(marks) <= 10
    assert marks[0] <= low + 1e-6 * steps[0]
    assert marks[-1] >= low + width - 1e-6 * steps[0]
    assert np.allclose(steps, steps[0], rtol=1e-6)
    digit = steps[0] / 10 ** np.floor(np.log10(steps[0]) + 1e-9)
    assert min(abs(digit - d) for d in (1, 2, 5, 10)) < 1e-6


@given(st.floats(1e-3, 1e4), st.floats(1.01, 1e3))
def test_ticks_of_a_logarithmic_scale_lie_within(low: float, ratio: float) -> None:
    marks = log_ticks(low, low * ratio)
    assert marks == sorted(set(marks)) and len(marks) <= 12
    assert all(low <= mark <= low * ratio for mark in marks)
    if ratio > 3:
        assert len(marks) >= 2


def test_without_a_report_part_the_page_says_what_it_tells(
    fake: FakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seen(precision: str, worse: int = 0) -> Statistics:
        whole = make_statistics(precision, worse)
        return dataclasses.replace(whole, parts=("calibration",) * len(NAMES))

    monkeypatch.setattr("tests.support.report_run.make_statistics", seen)
    page = page_of(fake.everything())
    assert "there is no report part" in page.text
    assert "on 8 images that the search saw" in page.text
    assert "met on the calibration part" in page.text
    assert "met on the report part" not in page.text
    views = data_of(fake.run.report.read_text("utf-8"))["targets"][0]["views"]
    assert [view["report"] for view in views] == [None] * 3

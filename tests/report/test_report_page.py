"""The page and the files beside it: whole, self-contained, nothing unescaped."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mess_tf.commands.report import render, report
from mess_tf.core.configuration import Configuration, ExitChoice
from mess_tf.core.errors import UsageError
from mess_tf.core.routing import exit_position_per_image
from mess_tf.reporting.gallery import choose_images
from mess_tf.reporting.records import Deployment
from mess_tf.reporting.text import configuration_text, ms, pp, speed
from mess_tf.reporting.write_report import WrittenReport
from tests.support.report_run import NAMES, FakeRun, make_statistics

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


@pytest.fixture
def fake(tmp_path: Path) -> FakeRun:
    return FakeRun(tmp_path / "run")


@dataclass(frozen=True)
class Whole:
    """A run with everything, its report and its page; not to be written into."""

    run: FakeRun
    written: WrittenReport
    raw: str
    page: Page
    configurations: list[dict[str, Any]]
    stops: list[dict[str, Any]]

    @property
    def deployment(self) -> Deployment:
        (deployment,) = self.written.reports[0].report.deployments
        return deployment


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    run = FakeRun(tmp_path_factory.mktemp("whole") / "run").everything()
    written = run.write()
    raw = written.page.read_text(encoding="utf-8")
    data = data_of(raw)
    configurations = data["deployments"][0]["configurations"]
    return Whole(run, written, raw, Page(raw), configurations, data["stops"])


def data_of(raw: str) -> dict[str, Any]:
    """The figures that the page's script reads."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', raw)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def page_of(fake: FakeRun) -> Page:
    return Page(fake.write().page.read_text(encoding="utf-8"))


def badges(page: Page) -> list[str]:
    """Verdicts on the page, in order: ``met`` or ``unmet``."""
    classes = (str(a.get("class", "")) for tag, a in page.tags if tag == "span")
    return [css.split()[1] for css in classes if css.startswith("badge ")]


def test_every_configuration_has_its_headline(whole: Whole) -> None:
    for reported in whole.deployment.configurations:
        shown = reported.shown
        assert f"{speed(shown.speedup)} at {pp(shown.drop_pp)}" in whole.page.text
        assert f"{ms(shown.mean_ms)} per image" in whole.page.text
        text = configuration_text(reported.exits, shown.exit_rates)
        assert text in whole.page.text
    # Headline, card and static exit of drop3, which is met, and of drop1, which is not;
    # both in the page's order of configurations, then of results.
    results = [result.chosen.met for result in whole.deployment.results]
    assert results == [True, False]
    assert badges(whole.page)[:2] == ["met", "unmet"]
    # 6.3 ms measured against 6.0 ms at the present speed.
    assert "+5.0 %" in whole.page.text


def test_numbers_are_written_with_their_signs_and_units() -> None:
    assert [speed(1.9535), speed(1.0)] == ["1.95× faster", "1.00× as fast"]
    assert [pp(2.34), pp(-0.5), pp(0.0)] == ["−2.34 pp", "+0.50 pp", "±0.00 pp"]
    assert [ms(0.1234), ms(5.375), ms(10.5)] == ["0.123 ms", "5.38 ms", "10.5 ms"]
    exits = (ExitChoice(1, "a", "mean", 0.8), ExitChoice(2, "b"))
    text = configuration_text(exits, (0.75, 0.25))
    assert text == "exit 1 a leaves at mean ≥ 0.8 (75%) › exit 2 b (25%)"


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
    written = fake.write()
    page = Page(written.page.read_text(encoding="utf-8"))
    assert ("Not there yet" in page.text) == bool(written.missing)
    missing = [dataclasses.asdict(part) for part in written.missing]
    result = {"report": str(written.page), "figures": [], "missing": missing}
    for part in written.missing:
        assert part.command in page.text
        assert part.command in render(result)


def test_drawn_images_are_said_to_be_drawn(tmp_path: Path, fake: FakeRun) -> None:
    synthetic = "Synthetic data."
    assert synthetic not in page_of(fake.train()).text
    assert synthetic in page_of(FakeRun(tmp_path / "drawn", drawn=True).train()).text


def test_the_host_is_said_to_be_no_phone(fake: FakeRun) -> None:
    words = "Measured on this computer, not on a phone."
    assert words not in page_of(fake.train().compile().evaluate()).text
    assert words in page_of(fake.profile()).text


def test_every_configuration_has_its_command_to_copy(whole: Whole) -> None:
    for reported in whole.configurations:
        assert reported["command"] in whole.page.text
    assert whole.configurations[0]["command"].startswith("mess search ")
    assert " && mess export " in whole.configurations[0]["command"]
    assert whole.configurations[1]["command"].startswith("mess export ")


def test_the_page_holds_what_the_search_found(whole: Whole) -> None:
    configurations = {reported["name"]: reported for reported in whole.configurations}
    folder = whole.run.run.search("host", "int8")
    chosen = json.loads((folder / "chosen.json").read_text(encoding="utf-8"))
    for result in chosen["results"]:
        reported = configurations[result["name"]]
        for part in ("calibration", "report"):
            stored = result["chosen"][part]
            assert {k: reported[part][k] for k in FIGURES} == {
                k: stored[k] for k in FIGURES
            }
        exits = [(e["exit"], e["head"]) for e in result["chosen"]["configuration"]]
        assert [(e["exit"], e["head"]) for e in reported["exits"]] == exits
    with (folder / "pareto.csv").open(newline="") as file:
        last = list(csv.DictReader(file))[-1]
    assert configurations["front 2"]["report"]["mean_ms"] == float(
        last["report_mean_ms"]
    )
    assert configurations["front 2"]["calibration"]["drop_pp"] == float(last["drop_pp"])


def test_the_slider_stops_where_the_best_choice_changes(whole: Whole) -> None:
    drops = [stop["drop_pp"] for stop in whole.stops]
    assert drops == sorted(drops) and drops[0] == 0.0
    for stop in whole.stops:
        (index,) = stop["configurations"]
        shown = whole.configurations[index]["calibration"]
        allowed = [
            v["calibration"]["mean_ms"]
            for v in whole.configurations
            if v["calibration"]["drop_pp"] <= stop["drop_pp"]
        ]
        assert shown["mean_ms"] == min(allowed)
    # Both answers are the same configuration: there is one more place to stop.
    assert len(whole.stops) == 2


def test_progressive_outputs_frame_the_taken_exit(whole: Whole) -> None:
    page = whole.page
    framed = [t for t, a in page.tags if t == "figure" and a.get("class") == "taken"]
    # Four images on the report part, and each leaves once.
    assert len(framed) == 4 * len(whole.configurations)
    gallery = whole.written.reports[0].galleries["int8"]
    easy, hard = gallery.samples[0], gallery.samples[-1]
    early, final = (1, "fcn_r1_b0"), (2, "fcn_r1_b0")
    # On easy images either class has 44 of 50 pixels right: 44 / (50 + 50 - 44).
    assert easy.outputs[early].miou == pytest.approx(44 / 56)
    assert easy.outputs[early].accuracy == pytest.approx(0.88)
    assert hard.outputs[early].miou == pytest.approx(30 / 70)
    assert hard.outputs[final].accuracy == pytest.approx(0.8)
    assert "exit 1: mIoU 79%, pAcc 88% · leaves here" in page.text
    assert "exit 2: mIoU 67%, pAcc 80% · leaves here" in page.text


def test_confidences_stand_beside_their_maps(whole: Whole) -> None:
    page = whole.page
    gallery = whole.written.reports[0].galleries["int8"]
    mean, plain, _ = gallery.policies
    confidence = gallery.samples[0].outputs[1, "fcn_r1_b0"].confidence
    # The early exit's logits are 1 and 0.
    assert confidence[mean] == pytest.approx(np.exp(1) / (1 + np.exp(1)))
    assert confidence[plain] == 0
    assert f"exit 1: mean {confidence[mean]:.3f}, Eq. 7 0.000" in page.text
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
    written = fake.write()
    report = written.reports[0].report
    assert report.predicted
    (result, other) = report.deployments[0].results
    assert result.predicted == {"head_1_fcn_r1_b0": (0.5, 2.0)} and not other.predicted
    assert result.command.startswith("mess profile ")
    text = Page(written.page.read_text(encoding="utf-8")).text
    assert words in text
    assert "head_1_fcn_r1_b0 (likely 0.500 ms to 2.00 ms)" in text


def test_files_are_described_by_their_cards(whole: Whole) -> None:
    (file,) = whole.written.reports[0].report.exports
    assert (file.form, file.input, file.output) == (
        "linked, thresholds as input",
        "int8 32×48×3",
        "int8 logits 8×12×2",
    )
    assert file.inside == {
        "weights": "int8 1.20 MB, float32 12 bytes",
        "softmax": "decides",
    }
    for text in (file.form, file.input, file.output, *file.inside.values()):
        assert text in whole.page.text


def test_runs_are_compared_on_one_page(fake: FakeRun, tmp_path: Path) -> None:
    other = FakeRun(tmp_path / "other" / "again").everything()
    fake.everything()
    raw = fake.write(other).page.read_text(encoding="utf-8")
    data, page = data_of(raw), Page(raw)
    labels = [one["label"] for one in data["deployments"]]
    assert labels == ["int8 on host, run", "int8 on host, again"]
    assert "All compared" in page.text and "Runs side by side" in page.text
    assert all(len(stop["configurations"]) == 2 for stop in data["stops"])
    # The same images in the same order: one name per run and place.
    samples = [a["id"] for t, a in page.tags if t == "image" and a["id"][-2:] == "-0"]
    assert samples == ["p0-int8-0", "p1-int8-0"]
    with pytest.raises(UsageError, match="given twice"):
        report(fake.folder, others=[fake.folder / ".." / "run"])


def test_lost_images_cost_the_pictures_only(fake: FakeRun) -> None:
    fake.everything()
    for file in (fake.folder.parent / "data" / "images" / "val").iterdir():
        file.unlink()
    page = page_of(fake)
    assert "Sample images: " in page.text and "1.95× faster" in page.text


def test_another_place_for_the_page(fake: FakeRun, tmp_path: Path) -> None:
    page = tmp_path / "new" / "page.html"
    assert report(fake.train().folder, output=page)["report"] == str(page)
    assert page.is_file() and not fake.run.report.exists()


@given(st.integers(1, 6), st.floats(0.4, 0.95))
def test_images_go_from_easy_to_hard(count: int, threshold: float) -> None:
    statistics = make_statistics("int8")
    configuration = Configuration(
        (ExitChoice(1, "fcn_r1_b0", "mean", threshold), ExitChoice(2, "fcn_r1_b0"))
    )
    positions = exit_position_per_image(statistics, configuration)
    chosen = choose_images(statistics, configuration.exits, positions, count)
    reported = [i for i, name in enumerate(NAMES) if name[0] == "r"]
    assert len(chosen) == len(set(chosen)) == min(count, len(reported))
    assert set(chosen) <= set(reported)
    confidence = statistics.confidence["mean"][:, 0]
    ease = [(positions[i], -confidence[i]) for i in chosen]
    assert ease == sorted(ease)
    if count > 1:
        shown = {int(positions[i]) for i in chosen}
        assert shown == {int(positions[i]) for i in reported}


def test_without_a_report_part_the_page_shows_the_calibration_part(
    tmp_path: Path,
) -> None:
    written = FakeRun(tmp_path / "run", held_out=False).everything().write()
    raw = written.page.read_text(encoding="utf-8")
    (deployment,) = written.reports[0].report.deployments
    assert [result.part for result in deployment.results] == ["calibration"] * 2
    assert [one.shown.images for one in deployment.configurations] == [8] * 3
    page = Page(raw)
    assert "there is no report part" in page.text
    assert "met on the report part" not in page.text
    configurations = data_of(raw)["deployments"][0]["configurations"]
    assert [one["report"] for one in configurations] == [None] * 3

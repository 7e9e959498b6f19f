"""The page and the files beside it: whole, self-contained, nothing unescaped."""

from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_cases import CHOSEN, NAMES, FakeRun, make_statistics

from mess_tf.commands.report import render, report
from mess_tf.compile import runner
from mess_tf.doors import open_door
from mess_tf.records import Configuration, ExitChoice
from mess_tf.report.pictures import choose_images
from mess_tf.report.svg import ticks

VOID = {"meta", "link", "img", "br", "hr", "input"}


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


class FakeRunner:
    """Stands for the pieces: exit 1 calls everything class 0, exit 2 is right."""

    def __init__(self, pieces: object) -> None:
        self.upto = 0

    def features(self, image: np.ndarray, upto: int) -> dict[str, np.ndarray]:
        assert image.shape == (32, 48, 3)
        self.upto = upto
        return {}

    def output_logits(
        self, tensors: object, exit_index: int, head: str, size: tuple[int, int]
    ) -> np.ndarray:
        assert exit_index <= self.upto
        logits = np.zeros((1, *size, 2), np.float32)
        logits[..., 0] = 1
        if exit_index == 2:
            logits[:, :, size[1] // 2 :, 1] = 2
        return logits


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeRun:
    monkeypatch.setattr(runner, "PieceRunner", FakeRunner)
    return FakeRun(tmp_path / "run")


def page_of(fake: FakeRun) -> Page:
    return Page(Path(report(fake.folder)["report"]).read_text(encoding="utf-8"))


def test_the_page_tells_the_headline(fake: FakeRun) -> None:
    text = page_of(fake.everything()).text
    assert "1.95× faster" in text
    assert "−2.34 pp" in text
    assert "✓ met on the report part" in text and "✗ not met" in text
    assert "exit 1 fcn_r1_b0 leaves at mean ≥ 0.8 (75%) › exit 2 fcn_r1_b0" in text
    assert "all 8 images left at the exit that the search said" in text
    assert "+5.0 %" in text  # 6.3 ms measured against 6.0 ms at the present speed
    assert "report part 4 images of 2 groups" in text


def test_the_page_needs_nothing_from_elsewhere(fake: FakeRun) -> None:
    page = page_of(fake.everything())
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "action", "data"):
            address = attributes.get(name) or ""
            assert not address or address.startswith("data:image/"), (tag, address)
    text = fake.run.report.read_text(encoding="utf-8")
    assert "@import" not in text and "url(" not in text
    assert not re.search(r"https?://", text)


def test_names_from_files_are_escaped(fake: FakeRun) -> None:
    page = page_of(fake.everything())
    raw = fake.run.report.read_text(encoding="utf-8")
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


def test_the_front_is_drawn_whole(fake: FakeRun) -> None:
    fake.everything()
    raw = Path(report(fake.folder)["report"]).read_text(encoding="utf-8")
    found = re.search(r"<svg.*?</svg>", raw, re.S)
    assert found is not None
    svg = ElementTree.fromstring(found[0])
    dots = [c for c in svg.iter("circle") if "dot" in c.get("class", "").split()]
    assert len(dots) == 4  # two points, each on both parts
    for dot in dots:
        title = dot.find("title")
        assert title is not None and title.text is not None
        assert "mess search" in title.text and "mess export" in title.text
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


def test_progressive_outputs_frame_the_taken_exit(fake: FakeRun) -> None:
    page = page_of(fake.everything())
    framed = [t for t, a in page.tags if t == "figure" and a.get("class") == "taken"]
    assert len(framed) == 4  # four images on the report part, one exit taken by each
    assert (
        "exit 1: 50% of pixels right confidence 0.9000 ≥ 0.8000 · leaves" in page.text
    )
    assert "exit 1: 50% of pixels right confidence 0.4900 < 0.8000" in page.text
    assert "exit 2: 100% of pixels right · leaves here" in page.text
    assert not any("Progressive" in w for w in page.words)


def test_lost_images_cost_the_pictures_only(fake: FakeRun) -> None:
    fake.everything()
    for file in (fake.folder.parent / "data" / "images" / "val").iterdir():
        file.unlink()
    page = page_of(fake)
    assert "Progressive outputs: " in page.text and "1.95× faster" in page.text


def test_figures_are_written_as_csv_and_png(fake: FakeRun) -> None:
    result = report(fake.everything().folder)
    files = {Path(f).name: Path(f) for f in result["figures"]}
    kinds = ("exits_host", *(f"{k}_host_int8" for k in ("pareto", "exit_rates")))
    kinds += tuple(f"{k}_host_int8" for k in ("latency", "outputs"))
    assert set(files) == {f"{k}.{e}" for k in kinds for e in ("csv", "png")} | {
        "heads_host_int8.csv"
    }
    assert all(f.parent == fake.folder / "report" for f in files.values())
    for name, file in files.items():
        if name.endswith(".png"):
            assert file.read_bytes().startswith(b"\x89PNG")

    def rows(name: str) -> list[dict[str, str]]:
        with files[name].open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    mean = rows("latency_host_int8.csv")[2]
    assert (mean["path"], float(mean["heads_ms"])) == ("mean over images", 1.75)
    front = rows("pareto_host_int8.csv")
    assert Configuration.from_json(json.loads(front[0]["exits"])) == CHOSEN
    assert [float(r["report_ms"]) for r in front] == pytest.approx([5.375, 10.5])
    rates = rows("exit_rates_host_int8.csv")
    assert [float(r["report"]) for r in rates[:2]] == [0.75, 0.25]


def test_another_place_for_the_page(fake: FakeRun, tmp_path: Path) -> None:
    target = tmp_path / "new" / "page.html"
    assert report(fake.train().folder, target)["report"] == str(target)
    assert target.is_file() and not fake.run.report.exists()


@given(st.integers(1, 6), st.floats(0.4, 0.95))
def test_images_go_from_easy_to_hard(count: int, threshold: float) -> None:
    statistics = make_statistics("int8")
    configuration = Configuration(
        (ExitChoice(1, "fcn_r1_b0", "mean", threshold), ExitChoice(2, "fcn_r1_b0"))
    )
    leave_at = open_door("leave_at")
    chosen = choose_images(statistics, configuration, leave_at, count)
    places = leave_at(statistics, configuration)
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

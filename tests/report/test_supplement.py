"""What the supplement's figures and tables are made of, against plain recounting."""

from __future__ import annotations

import base64
import io
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from android_bench.records import Conditions
from mess_tf.commands.report import _best_within
from mess_tf.core.configuration import Configuration, ExitChoice
from mess_tf.core.routing import exit_position_per_image
from mess_tf.core.segmentation_metrics import (
    background_class,
    count_areas,
    foreground_accuracy,
    mean_iou,
)
from mess_tf.policies.confidence import confidence_numpy
from mess_tf.policies.registry import Policy
from mess_tf.reporting.conditions import summary
from mess_tf.reporting.costs import parts_ms
from mess_tf.reporting.gallery import make_gallery, pixel_threshold, same_images
from mess_tf.reporting.images import classes_uri, coloured, sure_uri
from mess_tf.reporting.page.spiders import HEIGHT, RADIUS, WIDTH, spider_svg
from mess_tf.reporting.speedups import SEARCHED, SPEEDUPS, UNIFORM, make_rings
from mess_tf.reporting.spider import MOST_SPOKES, spokes
from mess_tf.reporting.views import routed_areas
from mess_tf.runtime import piece_runner as runner
from tests.support.report_run import (
    EARLY,
    FINAL,
    MS,
    NAMES,
    FakeRun,
    make_spec,
    make_statistics,
)

LEAVE_AT = exit_position_per_image


@given(st.integers(0, 2**32 - 1), st.sampled_from([None, 0, 2]))
def test_pixel_accuracy_leaves_out_background_that_is_right(
    seed: int, background: int | None
) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.choice([0, 1, 2, 255], (6, 7)).astype(np.uint8)
    predicted = rng.integers(0, 3, (6, 7), np.uint8)
    counted = labels != 255
    if background is not None:
        counted &= ~((labels == background) & (predicted == background))
    areas = count_areas(labels, predicted, 3)
    found = foreground_accuracy(areas, background)
    if counted.any():
        assert found == pytest.approx((labels == predicted)[counted].mean())
    else:
        assert np.isnan(found)


def test_the_background_is_found_by_its_name() -> None:
    assert background_class(("Background", "cat")) == 0
    assert background_class(("sky", "road")) is None


def every_configuration(heads: set[tuple[int, str]]) -> Iterator[Configuration]:
    """All single exits, and the early heads with every threshold that tells images."""
    statistics = make_statistics("int8")
    yield from (Configuration((ExitChoice(*head),)) for head in heads)
    for exit_index, head in heads - {(2, FINAL)}:
        column = statistics.heads.index((exit_index, head))
        for threshold in np.unique(statistics.confidence["mean"][:, column]):
            early = ExitChoice(exit_index, head, "mean", float(threshold))
            yield Configuration((early, ExitChoice(2, FINAL)))


def test_rings_are_the_best_within_their_latency() -> None:
    spec, statistics = make_spec(), make_statistics("int8")
    rings = make_rings(spec, statistics, MS, 10.5, _best_within, LEAVE_AT)
    calibration = np.flatnonzero(np.array(statistics.parts) == "calibration")
    spaces = {
        UNIFORM: {(1, EARLY), (2, FINAL)},
        SEARCHED: set(statistics.heads),
    }
    for heads, space in spaces.items():
        reached = {r.speedup: r for r in rings if r.heads == heads}
        for speedup in SPEEDUPS:
            best = 0.0
            for configuration in every_configuration(space):
                places = LEAVE_AT(statistics, configuration)
                table = parts_ms(spec, MS, configuration)
                assert table is not None
                cost = table.sum(axis=1)[places[calibration]].mean()
                areas = routed_areas(statistics, configuration, places, calibration)
                if cost <= 10.5 / speedup + 1e-9:
                    best = max(best, mean_iou(areas))
            assert (speedup in reached) == (best > 0)
            if speedup in reached:
                assert reached[speedup].proven
                chosen = reached[speedup].configuration
                places = LEAVE_AT(statistics, chosen)
                areas = routed_areas(statistics, chosen, places, calibration)
                assert mean_iou(areas) == pytest.approx(best)


def test_a_network_without_fcn_heads_has_no_uniform_ones() -> None:
    spec, statistics = make_spec(), make_statistics("int8")
    without = spec.with_heads([(1, "fcn_r2_b0"), (2, FINAL)])
    assert make_rings(without, statistics, MS, 10.5, _best_within, LEAVE_AT) == ()


def test_spokes_are_the_classes_that_occur() -> None:
    nan = float("nan")
    curves = {"a": np.array([0.5, nan, 0.7]), "b": np.array([0.5, nan, nan])}
    assert spokes(curves, ("x", "y", "z")) == [0, 2]


def test_of_many_classes_those_that_differ_most_have_spokes() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random(40), rng.random(40)
    kept = spokes({"a": a, "b": b}, [f"class {c}" for c in range(40)])
    assert len(kept) == MOST_SPOKES and kept == sorted(kept)
    left = [c for c in range(40) if c not in kept]
    assert np.abs(a - b)[kept].min() >= np.abs(a - b)[left].max()


def test_a_spider_curve_lies_where_the_iou_is() -> None:
    values = np.array([1.0, 0.5, 0.0, 0.25])
    svg = spider_svg({"<all>": (values, "e0")}, list("abcd"), "a & b")
    root = ElementTree.fromstring(svg)
    (curve,) = (p for p in root.iter("polygon") if p.get("class") == "curve e0")
    x, y = WIDTH / 2, HEIGHT / 2
    wanted = [(x, y - RADIUS), (x + RADIUS / 2, y), (x, y), (x - RADIUS / 4, y)]
    found = [tuple(map(float, p.split(","))) for p in curve.get("points", "").split()]
    assert np.allclose(found, wanted, atol=0.06)


def test_a_class_that_does_not_occur_leaves_a_gap() -> None:
    curves = {
        "some": (np.array([0.5, 0.5, np.nan, 0.5]), "e0"),
        "all": (np.full(4, 0.9), "e1"),
    }
    root = ElementTree.fromstring(spider_svg(curves, list("abcd"), "gap"))
    lines = [p for p in root.iter("polyline") if "e0" in p.get("class", "")]
    assert [len(line.get("points", "").split()) for line in lines] == [3]
    knots = [c for c in root.iter("circle") if "e0" in c.get("class", "")]
    assert len(knots) == 3


def decoded(uri: str) -> np.ndarray:
    match = re.fullmatch(r"data:image/png;base64,(.*)", uri)
    assert match is not None
    image = Image.open(io.BytesIO(base64.b64decode(match[1])))
    return np.asarray(image.convert("RGB"))


def test_class_maps_keep_their_colours() -> None:
    palette = np.array([[10, 20, 30], [200, 100, 0]], np.uint8)
    classes = np.array([[0, 1], [255, 1]], np.uint8)
    shown = decoded(classes_uri(classes, palette))
    assert (shown == coloured(classes, palette)).all()
    assert shown[0, 1].tolist() == [200, 100, 0] != shown[1, 0].tolist()


def test_confidence_maps_go_from_yellow_to_purple() -> None:
    shown = decoded(sure_uri(np.array([[0.0, 0.3, 0.65, 1.0]], np.float32))).astype(int)
    red, green, blue = np.moveaxis(shown[0], -1, 0)
    assert shown[0, 0].tolist() == shown[0, 1].tolist()  # both below the scale
    assert red[0] > 200 and green[0] > 200 and blue[0] < 100
    assert blue[3] > 100 and green[3] < 50
    assert green[0] > green[2] > green[3]


def test_conditions_are_summed_over_all_rounds() -> None:
    rounds = [
        Conditions("t", temperature_c=31.04, throttled=False, battery_percent=80),
        Conditions("t", temperature_c=35.5, throttled=True, battery_percent=80),
        Conditions("t", foreign_load=0.25, governor="schedutil"),
    ]
    assert summary(rounds) == {
        "rounds": "3",
        "temperature": "31.0 to 35.5 °C",
        "battery": "80 %",
        "busy with other work": "0.25 cores",
        "throttled": "in 1 of 2 rounds",
        "governor": "schedutil",
    }


def test_the_pixel_threshold_is_the_configurations_own() -> None:
    def of(policy: str) -> float:
        early = ExitChoice(1, EARLY, policy, 0.5)
        return pixel_threshold(Configuration((early, ExitChoice(2, FINAL))))

    assert [of("mean"), of("eq7@0.75"), of("eq7+9@0.6")] == [0.9, 0.75, 0.6]


def test_galleries_tell_the_policies_own_confidences(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mess_tf.data.open import open_data

    logits = np.random.default_rng(0).normal(0, 2, (1, 8, 12, 2)).astype(np.float32)

    class Runner:
        def __init__(self, pieces: object) -> None: ...

        def features(self, image: np.ndarray, upto: int) -> dict[str, np.ndarray]:
            return {}

        def logits(self, *_: object) -> np.ndarray:
            return logits

        def output_logits(self, *_: object) -> np.ndarray:
            return logits

    monkeypatch.setattr(runner, "PieceRunner", Runner)
    run = FakeRun(tmp_path / "run").train().compile().evaluate().run
    statistics, head = make_statistics("int8"), (1, EARLY)
    configuration = Configuration((ExitChoice(2, FINAL),))
    choices = same_images(statistics, configuration, LEAVE_AT, ["r2", "c0"])
    assert [NAMES[choice.index] for choice in choices] == ["r2", "c0"]
    assert same_images(statistics, configuration, LEAVE_AT, ["r2", "gone"]) == []
    gallery = make_gallery(
        open_data(run.recipe.data),
        make_spec(),
        None,  # type: ignore[arg-type]
        statistics,
        choices,
        [head],
        0.75,
    )
    for shot, key in itertools.product(gallery.shots, gallery.policies):
        wanted = confidence_numpy(Policy.parse(key), logits)[0]
        assert shot.looks[head].confidence[key] == pytest.approx(float(wanted))
    assert [shot.name for shot in gallery.shots] == ["r2", "c0"]
    assert gallery.shots[0].looks[head].accuracy == pytest.approx(0.88)

"""What the supplement's figures and tables are made of, against plain recounting."""

from __future__ import annotations

import base64
import io
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from android_bench.records import Conditions
from mess_tf.core.configuration import Configuration, ExitChoice
from mess_tf.core.latency import PathLatency
from mess_tf.core.routing import exit_position_per_image, routed_areas
from mess_tf.core.segmentation_metrics import (
    background_class,
    count_areas,
    foreground_accuracy,
    mean_iou,
)
from mess_tf.data.dataset import open_dataset
from mess_tf.policies.confidence import confidence_numpy
from mess_tf.policies.registry import Policy
from mess_tf.reporting.device_conditions import conditions_summary
from mess_tf.reporting.gallery import (
    GalleryMaker,
    named_images,
    pixel_threshold,
)
from mess_tf.reporting.images import classes_uri, coloured, sure_uri
from mess_tf.reporting.routed import Router
from mess_tf.reporting.speedups import SEARCHED, SPEEDUPS, UNIFORM, SpeedupSearch
from tests.support.report_run import (
    EARLY,
    FINAL,
    MS,
    NAMES,
    FakeRun,
    make_spec,
    make_statistics,
)


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


def test_speedup_points_are_the_best_within_their_latency() -> None:
    spec, statistics = make_spec(), make_statistics("int8")
    points = SpeedupSearch(spec, MS, 10.5).points(Router(statistics))
    latency = PathLatency(spec, MS)
    calibration = np.flatnonzero(np.array(statistics.parts) == "calibration")
    spaces = {
        UNIFORM: {(1, EARLY), (2, FINAL)},
        SEARCHED: set(statistics.heads),
    }
    for heads, space in spaces.items():
        reached = {p.speedup: p for p in points if p.heads == heads}
        for speedup in SPEEDUPS:
            best = 0.0
            for configuration in every_configuration(space):
                positions = exit_position_per_image(statistics, configuration)
                cost = latency.image_ms(configuration, positions[calibration]).mean()
                areas = routed_areas(statistics, configuration, positions, calibration)
                if cost <= 10.5 / speedup + 1e-9:
                    best = max(best, mean_iou(areas))
            assert (speedup in reached) == (best > 0)
            if speedup in reached:
                assert reached[speedup].proven
                chosen = reached[speedup].configuration
                positions = exit_position_per_image(statistics, chosen)
                areas = routed_areas(statistics, chosen, positions, calibration)
                assert mean_iou(areas) == pytest.approx(best)


def test_a_network_without_fcn_heads_has_no_uniform_ones() -> None:
    without = make_spec().with_heads([(1, "fcn_r2_b0"), (2, FINAL)])
    router = Router(make_statistics("int8"))
    assert SpeedupSearch(without, MS, 10.5).points(router) == ()


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
    assert conditions_summary(rounds) == {
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
        return pixel_threshold((early, ExitChoice(2, FINAL)))

    assert [of("mean"), of("eq7@0.75"), of("eq7+9@0.6")] == [0.9, 0.75, 0.6]


def test_galleries_have_the_confidences_of_the_policies(tmp_path: Path) -> None:
    logits = np.random.default_rng(0).normal(0, 2, (1, 8, 12, 2)).astype(np.float32)

    class Runner:
        def features(
            self, image: np.ndarray, upto: int | None = None
        ) -> dict[str, np.ndarray]:
            return {}

        def logits(self, tensors: object, exit_index: int, head_id: str) -> np.ndarray:
            return logits

        def output_logits(
            self,
            tensors: object,
            exit_index: int,
            head_id: str,
            size: tuple[int, int],
        ) -> np.ndarray:
            return logits

    run = FakeRun(tmp_path / "run").train().compile().evaluate().run
    statistics, head = make_statistics("int8"), (1, EARLY)
    images = named_images(statistics, ["r2", "c0"])
    assert [NAMES[index] for index in images] == ["r2", "c0"]
    assert named_images(statistics, ["r2", "gone"]) == []
    data = open_dataset(run.recipe.data)
    maker = GalleryMaker(data, make_spec(), statistics, Runner(), 0.75)
    gallery = maker.gallery(images, [head])
    for sample, key in itertools.product(gallery.samples, gallery.policies):
        wanted = confidence_numpy(Policy.parse(key), logits)[0]
        assert sample.outputs[head].confidence[key] == pytest.approx(float(wanted))
    assert [sample.name for sample in gallery.samples] == ["r2", "c0"]
    assert gallery.samples[0].outputs[head].accuracy == pytest.approx(0.88)

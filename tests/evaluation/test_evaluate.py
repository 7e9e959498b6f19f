"""Statistics: what is counted, and what a kill leaves behind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mess_tf.core.errors import MessError
from mess_tf.core.statistics import Statistics
from mess_tf.core.supernet_spec import ExitPoint, HeadSpec, Preprocessing, SupernetSpec
from mess_tf.data.sources import Sample
from mess_tf.evaluation import evaluate as module
from mess_tf.evaluation.accuracy import head_miou
from mess_tf.evaluation.evaluate import evaluate
from mess_tf.evaluation.runners import HeadOutput
from mess_tf.policies.confidence import confidences_numpy

SPEC = SupernetSpec(
    backbone="mobilenet_v2",
    backbone_options={},
    output_stride=16,
    image_height=16,
    image_width=16,
    classes=("a", "b"),
    ignore_label=255,
    exit_points=(ExitPoint(1, "x", 4, 8, 10), ExitPoint(2, "y", 8, 8, 20)),
    heads=((HeadSpec(),), (HeadSpec(),)),
    output_stride_of_logits=4,
    head_options={},
    preprocessing=Preprocessing(),
)
POLICIES = ("mean", "eq7@0.9")


class Source:
    """Images whose first pixel is their number."""

    names = tuple(f"{i:03d}" for i in range(40))
    groups = names
    classes = SPEC.classes
    ignore_label = 255
    palette = np.zeros((2, 3), np.uint8)

    def __len__(self) -> int:
        return len(self.names)

    def load(self, index: int) -> Sample:
        labels = np.random.default_rng(index).integers(0, 2, (16, 16)).astype(np.uint8)
        labels[0] = 255
        return Sample(np.full((16, 16, 3), index, np.uint8), labels)


class Fake:
    """Heads that say random things; fails at an image if told so."""

    source = "fake"
    parameters: Mapping[str, np.ndarray] = {}

    def __init__(self, fail_at: int | None = None) -> None:
        self.fail_at = fail_at
        self.seen: list[int] = []

    def run(self, image: np.ndarray) -> Iterator[HeadOutput]:
        number = round(float(image[0, 0, 0]) * 127.5 + 127.5)
        if number == self.fail_at:
            raise KeyboardInterrupt
        self.seen.append(number)
        rng = np.random.default_rng(1000 + number)
        for _ in range(2):
            logits = rng.normal(size=(4, 4, 2)).astype(np.float32)
            values = confidences_numpy(logits[None, :2], POLICIES)
            yield HeadOutput(
                logits, logits, {k: float(v[0]) for k, v in values.items()}
            )


def run(path: Path, runner: Fake, fingerprint: str = "f") -> Statistics:
    parts: Any = tuple("report" if i % 2 else "calibration" for i in range(40))
    return evaluate(
        runner, SPEC, Source(), parts, POLICIES, path, fingerprint, lambda n: None
    )


def test_areas_and_confidences_are_those_of_each_image(tmp_path: Path) -> None:
    statistics = run(tmp_path / "s.npz", Fake())
    assert statistics.heads == ((1, "fcn_r1_b0"), (2, "fcn_r1_b0"))
    assert statistics.images == Source.names
    labels = Source().load(7).labels
    outputs = list(Fake().run(np.full((1, 1, 1), (7 - 127.5) / 127.5)))
    assert statistics.true_area[7].tolist() == [
        int((labels == 0).sum()),
        int((labels == 1).sum()),
    ]
    assert (statistics.predicted_area[7].sum(axis=-1) == (labels < 2).sum()).all()
    for head, output in enumerate(outputs):
        for key in POLICIES:
            assert statistics.confidence[key][7, head] == np.float32(
                output.confidence[key]
            )
    assert 0 < head_miou(statistics, (1, "fcn_r1_b0"), "report") < 1
    again = Statistics.load(tmp_path / "s.npz")
    np.testing.assert_array_equal(again.intersection, statistics.intersection)
    assert again.parts == statistics.parts


def test_finished_chunks_survive_a_kill(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole.npz", Fake())
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "s.npz", Fake(fail_at=35))
    assert not (tmp_path / "s.npz").exists()
    second = Fake()
    resumed = run(tmp_path / "s.npz", second)
    assert second.seen == list(range(2 * module.CHUNK, 40))
    np.testing.assert_array_equal(resumed.intersection, whole.intersection)
    np.testing.assert_array_equal(resumed.confidence["mean"], whole.confidence["mean"])
    assert {p.name for p in tmp_path.iterdir()} == {"s.npz", "whole.npz"}


def test_chunks_of_another_model_are_not_mixed_in(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "s.npz", Fake(fail_at=35), "old model")
    second = Fake()
    run(tmp_path / "s.npz", second, "new model")
    assert second.seen == list(range(40))


def test_other_classes_are_refused(tmp_path: Path) -> None:
    class Other(Source):
        classes = ("a", "c")

    with pytest.raises(MessError, match="has the classes a, c"):
        evaluate(
            Fake(), SPEC, Other(), (), POLICIES, tmp_path / "s.npz", "f", lambda n: None
        )


@pytest.mark.parametrize("keep", [0, 100, 1500])
def test_a_broken_statistics_file_is_told(tmp_path: Path, keep: int) -> None:
    run(tmp_path / "s.npz", Fake())
    content = (tmp_path / "s.npz").read_bytes()
    (tmp_path / "s.npz").write_bytes(content[:keep])
    with pytest.raises(MessError, match="cannot be read"):
        Statistics.load(tmp_path / "s.npz")

"""What a decision between two finished networks could save: a trial without exits.

    python benchmarks/photographs/gate_trial.py DATA SMALL.keras BIG.keras --cost 0.39

Both networks take (RGB - 128) / 128 and end in an enlargement, which is left out. An
image is answered by SMALL, and by BIG too where the decision says so. Decisions are
fitted on DATA's train split; the threshold is the best on val itself, so figures are in
sample: they rank decisions and promise nothing. `--cost` is SMALL's latency as a part
of BIG's. Predictions are stored beside the networks' names in `--work` and used again.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mess_tf.core.tensorflow_environment import set_tensorflow_defaults

set_tensorflow_defaults()

import keras
import numpy as np

from mess_tf.core.segmentation_metrics import (
    Areas,
    count_areas,
    image_quality,
    mean_iou,
)
from mess_tf.core.supernet_spec import Preprocessing
from mess_tf.data.augment import evaluation_image
from mess_tf.data.folder import open_folder
from mess_tf.evaluation.fit import gate_weights, miou_gains
from mess_tf.evaluation.predict import upsampled_classes
from mess_tf.policies.confidence import confidences_numpy
from mess_tf.policies.gate import features_numpy

NORM = Preprocessing((128.0,) * 3, (128.0,) * 3)
DROPS_PP = (0.0, 0.5, 1.0, 2.0)
STEP = 3  # images between two thresholds that are tried
Scores = dict[str, np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("small", type=Path)
    parser.add_argument("big", type=Path)
    parser.add_argument("--cost", type=float, required=True)
    parser.add_argument("--work", type=Path, default=Path("gate_trial"))
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    small, big = (
        {s: predictions(net, given.data, s, given.work) for s in ("train", "val")}
        for net in (given.small, given.big)
    )
    areas = {s: paired_areas(big[s], small[s]) for s in small}
    for index, name in enumerate(("big", "small")):
        print(f"{name}: mIoU {total_miou([row[index] for row in areas['val']]):.2%}")
    print("decision".ljust(34), *(f"{drop:g} pp".rjust(7) for drop in DROPS_PP))
    for name, score in decisions(small, areas).items():
        speedups = [speedup(score, areas["val"], given.cost, d) for d in DROPS_PP]
        print(name.ljust(34), *(f"{value:.2f}x".rjust(7) for value in speedups))


def decisions(small: dict[str, Any], areas: dict[str, Any]) -> Scores:
    """Per decision, how little the small network's answer is to be trusted."""
    logits = {
        split: values["logits"].astype(np.float32) for split, values in small.items()
    }
    sure = confidences_numpy(logits["val"], ["mean", "eq7@0.9", "entropy"])
    scores = {key: -values for key, values in sure.items()}
    features = {split: features_numpy(values) for split, values in logits.items()}
    classes = logits["val"].shape[-1]
    errors = {split: values[:, -2 * classes :] for split, values in features.items()}
    targets = {
        "image's mIoU": np.array(
            [image_quality(s) - image_quality(b) for b, s in areas["train"]]
        ),
        "data set's mIoU": miou_gains(areas["train"], final=0)[:, 1],
    }
    for target, gains in targets.items():
        for which, values in (("all features", features), ("expected errors", errors)):
            weights = gate_weights(values["train"], gains, [])
            guess = values["val"] @ weights[:-1] + weights[-1]
            scores[f"{target}, {which}"] = -guess
    scores["oracle"] = -miou_gains(areas["val"], final=0)[:, 1]
    return scores


def speedup(
    score: np.ndarray, areas: list[tuple[Areas, Areas]], cost: float, drop_pp: float
) -> float:
    """Best speed-up over the big network alone at a drop of so many points."""
    order = np.argsort(-score)  # the first are asked again
    asked = total_miou([areas[i][0] for i in order])
    least = asked - drop_pp / 100
    for count in range(0, len(order), STEP):
        rows = [areas[i][int(rank >= count)] for rank, i in enumerate(order)]
        if total_miou(rows) >= least - 1e-9:
            return max(1.0, 1 / (cost + count / len(order)))
    return 1.0


def total_miou(areas: list[Areas]) -> float:
    total = areas[0]
    for one in areas[1:]:
        total = total + one
    return mean_iou(total)


def paired_areas(big: Any, small: Any) -> list[tuple[Areas, Areas]]:
    """Per image the areas of both networks, the big one's first."""
    return list(zip(rows(big), rows(small), strict=True))


def rows(stored: Any) -> Iterator[Areas]:
    for true, predicted, both in stored["areas"]:
        yield Areas(true, predicted, both)


def predictions(path: Path, data: Path, split: str, work: Path) -> dict[str, Any]:
    """Logits on the network's grid and areas at the labels' resolution, per image."""
    stored = work / f"{path.stem}_{split}.npz"
    if not stored.is_file():
        source = open_folder(split, path=data, group="image")
        whole = keras.saving.load_model(path, compile=False)
        network = keras.Model(whole.input, whole.layers[-1].input)
        height, width = whole.input_shape[1:3]
        logits, areas = [], []
        for index in range(len(source)):
            sample = source.load(index)
            image = evaluation_image(sample.image, height, width, NORM)
            found = np.asarray(network.predict_on_batch(image[None]))[0]
            predicted = upsampled_classes(found, *sample.labels.shape)
            counted = count_areas(sample.labels, predicted, len(source.classes))
            logits.append(found.astype(np.float16))
            areas.append([counted.true, counted.predicted, counted.intersection])
        np.savez_compressed(stored, logits=np.array(logits), areas=np.array(areas))
    with np.load(stored) as file:
        return dict(file)


if __name__ == "__main__":
    main()

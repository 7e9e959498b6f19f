"""Fits the numbers of fitted policies, per head, on training images.

Neither part of the evaluation is looked at: thresholds are chosen on the calibration
part as for any policy, and nothing of the report part is seen. Training images flatter
the network, and deep exits more than early ones, so what is fitted is for putting
images in order; where to cut is the threshold's matter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mess_tf.core.errors import MessError
from mess_tf.core.quantiles import quantile
from mess_tf.core.segmentation_metrics import Areas, count_areas
from mess_tf.core.supernet_spec import SupernetSpec
from mess_tf.data.augment import evaluation_image
from mess_tf.data.sources import Source
from mess_tf.evaluation.predict import upsampled_classes
from mess_tf.evaluation.runners import Runner
from mess_tf.policies.gate import features_numpy

LEAST_PART = 0.02
"""Of what is asked of the easiest class's cells to 1, what is allowed the hardest's:
pixel thresholds of the paper go from 0.9 to 0.998."""

_PENALTIES = np.logspace(-1, 4, 11)
_FOLDS = 5
_CLIPPED = 0.01
_NO_SPREAD = 1e-9
_LEAST_IMAGES = 2


def fit_policies(
    runner: Runner,
    spec: SupernetSpec,
    source: Source,
    families: Sequence[str],
    images: int,
    progress: Callable[[int], object],
) -> dict[str, np.ndarray]:
    """Runs all heads on training images and fits what is asked for.

    Args:
        runner: gives logits; its confidences are not read.
        spec: structure with the runner's heads.
        source: training images with labels.
        families: fitted families, of ``cbt`` and ``gate``.
        images: at most so many, spread evenly.
        progress: called with how many more images are done.

    Returns:
        Per family, float32 array of shape (H, P).

    Raises:
        MessError: fewer than two labelled images.
    """
    chosen = np.linspace(0, len(source) - 1, images).round().astype(int)
    observed = _HeadObservations(spec)
    for index in np.unique(chosen).tolist():
        sample = source.load(index)
        image = evaluation_image(
            sample.image, spec.image_height, spec.image_width, spec.preprocessing
        )
        observed.add(runner, image, sample.labels, source.groups[index])
        progress(1)
    fits = {"cbt": observed.class_based, "gate": observed.gate}
    return {family: fits[family]() for family in families}


class _HeadObservations:
    """What the fits need to know of all heads on all images."""

    def __init__(self, spec: SupernetSpec) -> None:
        names, classes = spec.head_names(), len(spec.classes)
        heads = len(names)
        self._classes = classes
        self._final = names.index((spec.exit_points[-1].index, spec.final_head.id))
        self._probability = np.zeros((heads, classes, classes))
        self._features: list[list[np.ndarray]] = []
        self._areas: list[list[Areas]] = []
        self._groups: list[str] = []

    def add(
        self, runner: Runner, image: np.ndarray, labels: np.ndarray, group: str
    ) -> None:
        """Adds an image; one without a label counts nowhere."""
        if not (labels < self._classes).any():
            return
        features, of_heads = [], []
        for head, output in enumerate(runner.run(image)):
            self._probability[head] += _summed_by_class(output.output, labels)
            features.append(features_numpy(output.native[None])[0])
            predicted = upsampled_classes(output.output, *labels.shape)
            of_heads.append(count_areas(labels, predicted, self._classes))
        self._features.append(features)
        self._areas.append(of_heads)
        self._groups.append(group)

    def class_based(self) -> np.ndarray:
        """Strictness per head and class; see ``class_strictness``."""
        return np.stack([class_strictness(sums) for sums in self._probability])

    def gate(self) -> np.ndarray:
        """Weights per head that guess what an image adds to the mIoU there."""
        if len(self._areas) < _LEAST_IMAGES:
            raise MessError(
                f"The gate is fitted on {len(self._areas)} labelled training images;"
                f" it needs at least {_LEAST_IMAGES}. Leave 'gate' out of the recipe's"
                " statistics.policies, or give more images."
            )
        features = np.array(self._features)
        gains = miou_gains(self._areas, self._final)
        folds = _folds(self._groups)
        return np.stack(
            [
                gate_weights(features[:, head], gains[:, head], folds)
                for head in range(gains.shape[1])
            ]
        )


def miou_gains(areas: Sequence[Sequence[Areas]], final: int) -> np.ndarray:
    """What each image adds to the mIoU if a head answers instead of the final head.

    The mIoU of a data set is a function of sums over its images. Its tangent at the
    final head's sums gives every image a share of the change: with I and U a class's
    intersection and union, and dI and dU what an image changes of them, the mean over
    classes of ``(dI U - I dU) / U^2``.

    Args:
        areas: per image and head.
        final: position of the final head.

    Returns:
        float64 array of shape (images, heads), in mIoU times the number of images, so
        that its mean is the change of the mIoU (to first order); negative where the
        head is worse.
    """
    inside = np.array([[a.intersection for a in heads] for heads in areas], float)
    union = np.array([[a.union for a in heads] for heads in areas], float)
    total_inside = inside[:, final].sum(axis=0)
    total = union[:, final].sum(axis=0)
    there = total > 0
    total_inside, total = total_inside[there], total[there]
    change_inside = (inside - inside[:, final, None])[..., there]
    change = (union - union[:, final, None])[..., there]
    per_class = (change_inside * total - total_inside * change) / total**2
    gains: np.ndarray = per_class.mean(axis=-1) * len(areas)
    return gains


def class_strictness(summed: np.ndarray) -> np.ndarray:
    """Class-based thresholds out of probabilities: how strict each class is.

    As in "Class Based Thresholding in Early Exit Semantic Segmentation Networks", an
    easy class is one whose pixels have, on average, a large gap between the two
    largest probabilities. Our reading: per head, since which exits are chosen is not
    known yet (the paper averages over exits); between the easiest and the hardest
    class thresholds follow the gap linearly; a class that never occurs is as strict as
    the hardest.

    Args:
        summed: array of shape (C, C), per true class the sum of its pixels'
            probabilities.

    Returns:
        float32 array of shape (C,), 1 for the easiest class and 1 / ``LEAST_PART`` for
        the hardest; all 1 where no two classes differ.
    """
    total = summed.sum(axis=1)
    there = total > 0
    mean = summed[there] / total[there, None]
    ordered = np.sort(mean, axis=1)
    gap = ordered[:, -1] - ordered[:, -2]
    if np.ptp(gap) == 0:
        return np.ones(len(summed), np.float32)
    part = np.full(len(summed), LEAST_PART)
    ease = (gap - gap.min()) / np.ptp(gap)
    part[there] = LEAST_PART + (1 - LEAST_PART) * ease
    return (1 / part).astype(np.float32)


def gate_weights(
    features: np.ndarray, gains: np.ndarray, folds: list[tuple[np.ndarray, ...]]
) -> np.ndarray:
    """Ridge regression, its penalty chosen between groups, as the gate's parameters.

    Few images with large animals, or whatever is rare, decide most of the mIoU: the
    outermost gains are clipped before they are fitted. The weights are scaled to scores
    of a standard deviation of 1 on the images fitted on, where the sigmoid is steep.

    Args:
        features: array of shape (I, F).
        gains: array of shape (I,), see ``miou_gains``.
        folds: (indices to fit on, indices to try on); empty leaves one image out.

    Returns:
        float32 array of shape (F + 1,), the constant last.
    """
    low, high = quantile(gains, _CLIPPED), quantile(gains, 1 - _CLIPPED)
    clipped = np.clip(gains, low, high)
    model = make_pipeline(StandardScaler(), RidgeCV(_PENALTIES, cv=folds or None))
    model.fit(features.astype(np.float64), clipped)
    scaler, ridge = model[0], model[1]
    weights = ridge.coef_ / scaler.scale_
    constant = ridge.intercept_ - weights @ scaler.mean_
    scale = np.std(features @ weights)
    # Of the final head nothing is to be guessed: all its gains are 0.
    scale = scale if scale > _NO_SPREAD else 1.0
    return (np.append(weights, constant) / scale).astype(np.float32)


def _folds(groups: Sequence[str]) -> list[tuple[np.ndarray, ...]]:
    count = min(_FOLDS, len(set(groups)))
    if count < 2:
        return []
    return list(GroupKFold(count).split(groups, groups=groups))


def _summed_by_class(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Sum of the cells' softmax per true class, array of shape (C, C)."""
    height, width, classes = logits.shape
    small = cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    valid = small < classes
    shifted = logits[valid] - logits[valid].max(axis=-1, keepdims=True)
    weights = np.exp(shifted)
    probability = weights / weights.sum(axis=-1, keepdims=True)
    # A product with the labels' one-hot rows sums per class.
    return np.asarray(np.eye(classes, dtype=np.float32)[small[valid]].T @ probability)

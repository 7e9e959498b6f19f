"""Pixel-wise propagation: every exit answers the cells it is sure of, the rest goes on.

The baselines that MESS is compared with. Deep Layer Cascade (Li et al., CVPR 2017)
computes deeper layers on the cells that are still open only ("region convolution"):
everywhere else a convolution gives zero, so that a residual sum carries the features
on as they were. Anytime dense prediction with confidence adaptivity (ADP-C, Liu et al.,
ICLR 2022) fills these places in from their computed neighbours instead. Neither is
trained here for being masked: the propagation is put onto a trained supernet.

No runtime on phones skips single cells. What a cascade saves is counted in MACs; run
densely it costs all segments and all of its heads, whatever the images.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import keras
import numpy as np
from keras import ops

from mess_tf.converting.keras_graph import nodes_in_order
from mess_tf.core.errors import MessError
from mess_tf.core.piece_names import head_name
from mess_tf.core.segmentation_metrics import Areas, count_areas
from mess_tf.evaluation.predict import upsampled_classes
from mess_tf.models.macs import layer_macs
from mess_tf.models.supernet import Supernet
from mess_tf.training.losses import resize_to
from mess_tf.training.step_model import as_list

Fill = Literal["zero", "mean"]
"""What stands in a convolution's output outside of the region: zero (Deep Layer
Cascade), or the mean of the computed cells within 7x7 (ADP-C interpolates with a
Gaussian whose width is learned)."""

_REACH = 7

Sizes = Mapping[tuple[int, int], int]
"""MACs by the grid (height, width) of the layers that need them."""


@dataclass(frozen=True, eq=False)
class Cascade:
    """A supernet's exits one after the other, cell by cell.

    Attributes:
        heads: (exit index, head id) in order of depth; the last answers what is left.
        model: (images (B, H, W, 3), thresholds (B, 1)) -> per head the logits on the
            output grid, then per head but the last the cells on its own grid that are
            open behind it, float (B, h, w, 1), 1 or 0.
        macs: per head, MACs of what is computed on the way to it: the layers since the
            head before, and the head.
    """

    heads: tuple[tuple[int, str], ...]
    model: keras.Model
    macs: tuple[Sizes, ...]

    @property
    def dense_macs(self) -> int:
        """MACs of an image if every cell is computed by every layer."""
        return sum(sum(sizes.values()) for sizes in self.macs)


@dataclass(frozen=True, eq=False)
class CascadeAnswer:
    """What a cascade does with one image at one threshold.

    Attributes:
        areas: of its answer, at the labels' own resolution.
        macs: of region convolutions.
        answered: float array of shape (heads,), the part of the image per head.
    """

    areas: Areas
    macs: float
    answered: np.ndarray


def build_cascade(
    supernet: Supernet, heads: Sequence[tuple[int, str]], fill: Fill = "zero"
) -> Cascade:
    """Lays a supernet out as a cascade; weights are shared with nothing.

    Masks are laid on what batch normalisations put out, of which all convolutions of
    the built-in backbones and heads have one; a network of one's own without them is
    computed densely here, though its MACs are counted as if it were not.

    Args:
        supernet: trained.
        heads: (exit index, head id), at growing exits.
        fill: what stands outside of the region.

    Raises:
        MessError: no head, one that is not in the supernet, or exits that do not grow.
    """
    depth = [exit_index for exit_index, _ in heads]
    unknown = set(heads) - set(supernet.spec.head_names())
    if unknown or not heads or depth != sorted(set(depth)):
        raise MessError(
            f"A cascade's heads must be heads of the supernet at growing exits; got"
            f" {list(heads)}."
        )
    net = supernet.at_size()
    size = net.spec.output_size
    image = keras.Input(net.model.input.shape[1:], name="image")
    threshold = keras.Input((1,), name="threshold")
    done = {id(net.model.input): image}
    region: Any = None
    outputs, regions, macs = [], [], []
    for name in (head_name(*head) for head in heads):
        target = net.model.get_layer(f"{name}_logits").output
        needed: dict[tuple[int, int], int] = {}
        for node in nodes_in_order([target], done):
            values = [done[id(tensor)] for tensor in node.input_tensors]
            layer = node.operation
            value = layer(values if len(values) > 1 else values[0])
            grid = tuple(value.shape[1:3])
            if own := layer_macs(layer):
                needed[grid] = needed.get(grid, 0) + own
            if region is not None and isinstance(
                layer, keras.layers.BatchNormalization
            ):
                value = _inside(value, at_grid(region, *grid), fill)
            done[id(node.output_tensors[0])] = value
        logits = done[id(target)]
        outputs.append(resize_to(logits, *size))
        macs.append(needed)
        if len(outputs) < len(heads):
            sure = ops.max(ops.softmax(logits, axis=-1), axis=-1, keepdims=True)
            unsure = ops.cast(
                sure < ops.reshape(threshold, (-1, 1, 1, 1)), logits.dtype
            )
            if region is not None:
                unsure = unsure * at_grid(region, *logits.shape[1:3])
            region = unsure
            regions.append(region)
    model = keras.Model([image, threshold], [*outputs, *regions], name="cascade")
    return Cascade(tuple(heads), model, tuple(macs))


def at_grid(region: Any, height: int, width: int) -> Any:
    """A region (B, h, w, 1) on another grid: a cell is open if any part of it is."""
    factor = region.shape[1] // height, region.shape[2] // width
    if 0 in factor:  # a finer grid, behind a head that reads skips
        repeats = height // region.shape[1], width // region.shape[2]
        return ops.repeat(ops.repeat(region, repeats[0], axis=1), repeats[1], axis=2)
    return ops.max_pool(region, factor) if factor != (1, 1) else region


def _inside(value: Any, region: Any, fill: Fill) -> Any:
    inside = value * region
    if fill == "zero":
        return inside
    total, share = (
        ops.average_pool(x, _REACH, strides=1, padding="same") for x in (inside, region)
    )
    return inside + (1 - region) * total / ops.maximum(share, 1e-6)


def answer(
    cascade: Cascade, images: np.ndarray, labels: Sequence[np.ndarray], threshold: float
) -> list[CascadeAnswer]:
    """Runs a cascade on a batch of images at one threshold.

    Args:
        images: float32 array of shape (B, H, W, 3), normalised.
        labels: per image a uint8 array of its own size.
        threshold: top-1 probability at which a cell is answered.
    """
    thresholds = np.full((len(images), 1), threshold, np.float32)
    outputs = as_list(cascade.model.predict_on_batch([images, thresholds]))
    count = len(cascade.heads)
    regions = [np.asarray(own)[..., 0] > 0 for own in outputs[count:]]
    answers = []
    for i, own_labels in enumerate(labels):
        classes = [upsampled_classes(o[i], *own_labels.shape) for o in outputs[:count]]
        open_behind = [region[i] for region in regions]
        predicted, share = compose(classes, open_behind)
        answers.append(
            CascadeAnswer(
                count_areas(own_labels, predicted, outputs[0].shape[-1]),
                region_macs(cascade.macs, open_behind),
                share,
            )
        )
    return answers


def compose(
    classes: Sequence[np.ndarray], open_behind: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Each pixel's class from the first head that left it no longer open.

    Args:
        classes: per head, integer array of shape (h, w).
        open_behind: per head but the last, bool array on the head's own grid.

    Returns:
        the classes, shape (h, w), and the part of the image that each head answered.
    """
    height, width = classes[0].shape
    result = classes[-1]
    by = np.full(result.shape, len(classes) - 1)
    for place in range(len(classes) - 2, -1, -1):
        still_open = cv2.resize(
            open_behind[place].astype(np.uint8),
            (width, height),
            interpolation=cv2.INTER_NEAREST_EXACT,
        ).astype(bool)
        result = np.where(still_open, result, classes[place])
        by = np.where(still_open, by, place)
    return result, np.bincount(by.ravel(), minlength=len(classes)) / by.size


def region_macs(macs: Sequence[Sizes], open_behind: Sequence[np.ndarray]) -> float:
    """MACs of one image when a layer is computed on the open cells of its grid only.

    A convolution's MACs are counted per cell that it puts out. Filling in is not
    counted.

    Args:
        macs: per head, as in ``Cascade``.
        open_behind: per head but the last, bool array on the head's own grid.
    """
    total = float(sum(macs[0].values()))
    for sizes, region in zip(macs[1:], open_behind, strict=True):
        for grid, own in sizes.items():
            share = at_grid(region[None, ..., None].astype(np.float32), *grid)
            total += own * float(np.mean(share))
    return total


def total_areas(answers: Iterable[CascadeAnswer]) -> Areas:
    """Summed areas, of which a data set's mIoU is made."""
    first, *others = (answer.areas for answer in answers)
    return sum(others, first)

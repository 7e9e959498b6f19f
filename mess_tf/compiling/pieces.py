"""Compiles a supernet into pieces: segments, heads, decisions, resizes, probes.

The backbone is converted once with all exit tensors as outputs, the heads in groups
per exit point, and pieces are cut out of the results. For int8 the heads are calibrated
on the float backbone's exit tensors for the same images, so that an exit tensor has
one scale in every piece; where one still differs, the head starts by requantising.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mess_tf.compiling.auxiliary_pieces import add_auxiliary
from mess_tf.compiling.piece_folder import PieceWriter, write_pieces
from mess_tf.compiling.slice import (
    crossing_names,
    cut_between,
    cut_in_sequence,
    snap_input_scales,
    write_cut,
)
from mess_tf.converting.calibrate import Calibration, pixel_range, run_reference_kernels
from mess_tf.converting.convert import convert_model
from mess_tf.core.errors import MessError
from mess_tf.core.piece_names import (
    IMAGE_TENSOR,
    exit_tensor,
    head_name,
    segment_name,
)
from mess_tf.core.pieces import Pieces
from mess_tf.core.precisions import CalibrationMethod, Precision
from mess_tf.core.supernet_spec import SupernetSpec
from mess_tf.flatbuffer.reader import Graph, read_model
from mess_tf.policies.comparison_exit import reference_exits
from mess_tf.policies.registry import POLICIES, family_of

if TYPE_CHECKING:
    from mess_tf.models.supernet import Supernet

# The converter's time grows faster than its graph; below ten heads its fixed cost per
# call dominates (measured: 14 heads 2.5 s, 56 heads 24 s).
HEADS_PER_GROUP = 14

Progress = Callable[[str, float], None]


def compile_supernet(
    supernet: Supernet,
    folder: Path,
    precision: Precision,
    calibration: Sequence[np.ndarray] | None,
    policies: Sequence[str],
    progress: Progress | None = None,
    method: CalibrationMethod = "minmax",
) -> Pieces:
    """Compiles a supernet at its spec's image size and writes the folder of pieces.

    Args:
        supernet: of fixed or open image size.
        folder: to write or replace, whole or not at all.
        precision: one of ``CONVERTED``.
        calibration: for int8, normalised float32 images (H, W, 3) from the training
            split; some tens.
        policies: policy keys or families; one decision piece per family and head grid,
            and of families that compare also per exit that is compared with.
        progress: called with what is being done and the fraction done, 0..1.
        method: how int8's ranges follow from the calibration images.

    Returns:
        What was written, as ``Pieces.load(folder)`` gives it.

    Raises:
        MessError: an operator that LiteRT lacks, int8 without calibration images,
            images of another size, a policy that no exit has, a piece that fails its
            check, a disk that refuses.
    """
    if precision == "int8-qat":
        raise MessError("Pieces of int8-qat come from training: run `mess quantise`.")
    report = progress or (lambda what, fraction: None)
    spec = supernet.spec
    _check_policies(policies, spec)
    images, made = None, {}
    if precision == "int8":
        images = Calibration(
            [[image] for image in _check_images(calibration, spec)],
            method,
            {IMAGE_TENSOR: pixel_range(spec.preprocessing)},
        )
        made = {"calibration": method, "calibration_images": len(images.samples)}
    pieces = write_pieces(
        folder,
        precision,
        lambda writer: _compile_all(supernet, writer, images, policies, report),
        made,
    )
    report("done", 1.0)
    return pieces


def _compile_all(
    supernet: Supernet,
    writer: PieceWriter,
    images: Calibration | None,
    policies: Sequence[str],
    report: Progress,
) -> None:
    spec, precision = supernet.spec, writer.precision
    groups = list(_groups(spec))
    step, steps = 0, len(groups) + 3

    report("converting the backbone", step / steps)
    exits = [exit_tensor(point.index) for point in spec.exit_points]
    backbone, features = _convert_backbone(supernet, precision, images, exits)
    names = [segment_name(point.index) for point in spec.exit_points]
    cuts = cut_in_sequence(backbone, names, exits)
    renamed = crossing_names(cuts)
    for cut in cuts:
        writer.add(cut.name, "segment", write_cut(backbone, cut, renamed))
    producers = {name: backbone.info(backbone.tensor(name)) for name in exits}

    for step, (exit_index, ids) in enumerate(groups, start=1):
        report(f"converting {len(ids)} heads of exit {exit_index}", step / steps)
        inputs = supernet.head_inputs(exit_index, ids)
        calibration = None
        if images is not None:
            samples = [[f[exit_tensor(i)] for i in inputs] for f in features]
            calibration = Calibration(samples, images.method)
        group = _convert_heads(supernet, exit_index, ids, precision, calibration)
        snap_input_scales(group, producers)
        for head_id in ids:
            name = head_name(exit_index, head_id)
            given = [exit_tensor(i) for i in inputs]
            cut = cut_between(group, name, given, [name])
            writer.add(name, "head", write_cut(group, cut, {}, producers))

    report("decisions, resizes and probes", (steps - 1) / steps)
    add_auxiliary(spec, writer, policies)


def _groups(spec: SupernetSpec) -> Iterator[tuple[int, list[str]]]:
    """(exit index, head ids) of some ``HEADS_PER_GROUP`` heads each."""
    for point, heads in zip(spec.exit_points, spec.heads, strict=True):
        ids = [head.id for head in heads]
        count = -(-len(ids) // HEADS_PER_GROUP)
        for number in range(count):
            yield point.index, ids[number::count]


def _convert_backbone(
    supernet: Supernet,
    precision: Precision,
    images: Calibration | None,
    exits: Sequence[str],
) -> tuple[Graph, list[dict[str, np.ndarray]]]:
    """The backbone's graph and, for int8, the float exit tensors per image."""
    spec = supernet.spec
    model = supernet.backbone()
    sizes = [(spec.image_height, spec.image_width)]
    features = []
    if images is not None:
        exact = convert_model(model, [IMAGE_TENSOR], exits, "float32", None, sizes)
        features = run_reference_kernels(exact, images.samples)
    content = convert_model(model, [IMAGE_TENSOR], exits, precision, images, sizes)
    return Graph(read_model(content, "the backbone")), features


def _convert_heads(
    supernet: Supernet,
    exit_index: int,
    ids: Sequence[str],
    precision: Precision,
    calibration: Calibration | None,
) -> Graph:
    spec = supernet.spec
    inputs = supernet.head_inputs(exit_index, ids)
    strides = [spec.exit_points[i - 1].stride for i in inputs]
    content = convert_model(
        supernet.heads(exit_index, ids),
        [exit_tensor(i) for i in inputs],
        [head_name(exit_index, head_id) for head_id in ids],
        precision,
        calibration,
        [(spec.image_height // s, spec.image_width // s) for s in strides],
    )
    return Graph(read_model(content, f"the heads of exit {exit_index}"))


def _check_policies(policies: Sequence[str], spec: SupernetSpec) -> None:
    for policy in policies:
        if (name := family_of(policy)) not in POLICIES:
            raise MessError(
                f"Policy {policy!r} is unknown; accepted: {sorted(POLICIES)}."
            )
        if POLICIES[name].compares and not reference_exits(spec):
            raise MessError(
                f"Policy {policy!r} compares an early exit with one before it that has"
                " a head without skips, and there are no two such exits; leave it out"
                " of the recipe's statistics.policies."
            )


def _check_images(
    images: Sequence[np.ndarray] | None, spec: SupernetSpec
) -> list[np.ndarray]:
    if images is None or not len(images):
        raise MessError(
            "int8 needs calibration images; give some tens of training images."
        )
    expected = (spec.image_height, spec.image_width, 3)
    for image in images:
        if image.shape not in (expected, (1, *expected)):
            raise MessError(
                f"A calibration image has shape {image.shape}; the network takes"
                f" {expected}."
            )
    return [np.asarray(image, np.float32).reshape(1, *expected) for image in images]

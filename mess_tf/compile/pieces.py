"""A supernet as pieces: segments, heads, decisions and output steps, each verified.

The backbone is converted once with all exit tensors as outputs, the heads in groups
per exit point, and pieces are cut out of the results. For int8 the heads are calibrated
on the float backbone's own exit tensors for the same images, so that an exit tensor has
one scale in every piece; where one still differs, the head starts by requantising.
"""

from __future__ import annotations

import hashlib
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mess_tf.compile.check import check_piece, count_macs
from mess_tf.compile.convert import Calibration, convert_model
from mess_tf.compile.link import link_configuration
from mess_tf.compile.schema import Graph, read_model
from mess_tf.compile.slice import (
    Cut,
    adopt_scales,
    cut_between,
    cut_in_sequence,
    write_cut,
)
from mess_tf.compile.small import decision_piece, output_piece, with_pixel_threshold
from mess_tf.composition import probe_policy
from mess_tf.errors import MessError
from mess_tf.quiet import quiet
from mess_tf.records import (
    IMAGE_TENSOR,
    WHOLE_PROBE,
    Configuration,
    ExitChoice,
    Piece,
    PieceKind,
    Pieces,
    Precision,
    SupernetSpec,
    TensorInfo,
    branch_probe,
    decision_name,
    exit_tensor,
    head_name,
    output_name,
    segment_name,
)

if TYPE_CHECKING:
    from mess_tf.supernet import Supernet

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
) -> Pieces:
    """Compiles a supernet at its spec's image size and writes the folder of pieces.

    The folder appears whole or not at all: an existing one stays as it is until the new
    one is complete.

    Args:
        supernet: of fixed or open image size.
        folder: to write or replace.
        precision: ``float32`` or ``int8``.
        calibration: for int8, normalised float32 images (H, W, 3) from the training
            split; some tens.
        policies: policy keys or families; one decision piece per family and head grid.
        progress: called with what is being done and the fraction done, 0..1.

    Returns:
        What was written, as ``Pieces.load(folder)`` gives it.

    Raises:
        MessError: an operator that LiteRT lacks, int8 without calibration images,
            images of another size, a piece that fails its check, a disk that refuses.
    """
    if precision == "int8-qat":
        raise MessError("Pieces of int8-qat come from training: run `mess quantise`.")
    report = progress or (lambda what, fraction: None)
    spec = supernet.spec
    images = _check_images(calibration, spec, precision)
    pieces = write_pieces(
        folder,
        precision,
        lambda store: _compile_all(supernet, store, images, policies, report),
    )
    report("done", 1.0)
    return pieces


def write_pieces(
    folder: Path, precision: Precision, fill: Callable[[PieceStore], None]
) -> Pieces:
    """Writes a folder of pieces, whole or not at all.

    Args:
        folder: to write or replace.
        precision: of all pieces.
        fill: adds the pieces to the store it is given.

    Raises:
        MessError: a piece that fails its check, or a disk that refuses.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        store = PieceStore(partial, precision)
        fill(store)
        pieces = Pieces(precision, tuple(store.pieces), partial)
        pieces.save()
        _swap(partial, folder)
    except OSError as error:
        raise MessError(f"Cannot write {folder}: {error.strerror}.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return replace(pieces, folder=folder)


def _compile_all(
    supernet: Supernet,
    store: PieceStore,
    images: list[np.ndarray] | None,
    policies: Sequence[str],
    report: Progress,
) -> None:
    spec, precision = supernet.spec, store.precision
    groups = list(_groups(spec))
    step, steps = 0, len(groups) + 3

    report("converting the backbone", step / steps)
    exits = [exit_tensor(point.index) for point in spec.exit_points]
    backbone, features = _convert_backbone(supernet, precision, images, exits)
    names = [segment_name(point.index) for point in spec.exit_points]
    cuts = cut_in_sequence(backbone, names, exits)
    renamed = crossing_names(cuts)
    for cut in cuts:
        store.add(cut.name, "segment", write_cut(backbone, cut, renamed))
    borders = {name: backbone.info(backbone.tensor(name)) for name in exits}

    for step, (exit_index, ids) in enumerate(groups, start=1):
        report(f"converting {len(ids)} heads of exit {exit_index}", step / steps)
        inputs = supernet.head_inputs(exit_index, ids)
        samples = None
        if features is not None:
            samples = [[f[exit_tensor(i)] for i in inputs] for f in features]
        group = _convert_heads(supernet, exit_index, ids, precision, samples)
        adopt_scales(group, borders)
        for head_id in ids:
            name = head_name(exit_index, head_id)
            given = [exit_tensor(i) for i in inputs]
            cut = cut_between(group, name, given, [name])
            store.add(name, "head", write_cut(group, cut, {}, borders))

    report("decisions, output steps and probes", (steps - 1) / steps)
    add_common(spec, store, policies)


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
    images: list[np.ndarray] | None,
    exits: Sequence[str],
) -> tuple[Graph, list[dict[str, np.ndarray]] | None]:
    """The backbone's graph and, for int8, the float exit tensors per image."""
    spec = supernet.spec
    model = supernet.backbone()
    sizes = [(spec.image_height, spec.image_width)]
    content = convert_model(model, [IMAGE_TENSOR], exits, "float32", None, sizes)
    if images is None:
        return Graph(read_model(content, "the backbone")), None
    features = _run_without_delegate(content, images)
    samples = [[image] for image in images]
    content = convert_model(model, [IMAGE_TENSOR], exits, precision, samples, sizes)
    return Graph(read_model(content, "the backbone")), features


def _convert_heads(
    supernet: Supernet,
    exit_index: int,
    ids: Sequence[str],
    precision: Precision,
    samples: Calibration | None,
) -> Graph:
    spec = supernet.spec
    inputs = supernet.head_inputs(exit_index, ids)
    strides = [spec.exit_points[i - 1].stride for i in inputs]
    content = convert_model(
        supernet.heads(exit_index, ids),
        [exit_tensor(i) for i in inputs],
        [head_name(exit_index, head_id) for head_id in ids],
        precision,
        samples,
        [(spec.image_height // s, spec.image_width // s) for s in strides],
    )
    return Graph(read_model(content, f"the heads of exit {exit_index}"))


def _run_without_delegate(
    content: bytes, images: Sequence[np.ndarray]
) -> list[dict[str, np.ndarray]]:
    """Outputs per image, by the very kernels that the converter calibrates with.

    XNNPACK's results differ in the last bits, and so would the scales of an exit tensor
    in the backbone and in the heads.
    """
    import tensorflow as tf

    with quiet():
        # TensorFlow announces that its interpreter moves to LiteRT.
        warnings.simplefilter("ignore")
        interpreter = tf.lite.Interpreter(
            model_content=content,
            experimental_op_resolver_type=(
                tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
            ),
        )
        interpreter.allocate_tensors()
    result = []
    for image in images:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
        interpreter.invoke()
        result.append(
            {
                detail["name"]: interpreter.get_tensor(detail["index"])
                for detail in interpreter.get_output_details()
            }
        )
    return result


def crossing_names(cuts: Sequence[Cut]) -> dict[int, str]:
    """Readable names for tensors that cross a border and are no exit tensor."""
    return {
        tensor: f"carried_{cut.name}_{number}"
        for cut in cuts
        for number, tensor in enumerate(cut.outputs[1:], start=1)
    }


def add_common(spec: SupernetSpec, store: PieceStore, policies: Sequence[str]) -> None:
    """Adds what segments and heads need beside them: decisions, outputs, probes."""
    _add_small(spec, store, policies)
    _add_probes(spec, store, policies)


def _add_small(spec: SupernetSpec, store: PieceStore, policies: Sequence[str]) -> None:
    classes = len(spec.classes)
    sizes = {
        spec.head_size(point.index, head)
        for point, heads in zip(spec.exit_points, spec.heads, strict=True)
        for head in heads
    }
    families = {
        policy.split("@")[0]: with_pixel_threshold(policy) for policy in policies
    }
    for size in sorted(sizes):
        for policy in families.values():
            content = decision_piece(policy, size, classes, store.precision)
            store.add(decision_name(policy, size), "decision", content)
        if size != spec.output_size:
            content = output_piece(size, spec.output_size, classes, store.precision)
            store.add(output_name(size), "output", content)


def _add_probes(spec: SupernetSpec, store: PieceStore, policies: Sequence[str]) -> None:
    """Adds what tells the cost of putting pieces together; see ``composition``."""
    policy = with_pixel_threshold(probe_policy(p.split("@")[0] for p in policies))
    final = ExitChoice(spec.exit_points[-1].index, spec.final_head.id)
    never = 2.0  # no confidence reaches it: the branch behind the exit always runs
    probes = {WHOLE_PROBE: (final,)} | {
        branch_probe(point.index): (
            ExitChoice(point.index, heads[0].id, policy, never),
            final,
        )
        for point, heads in zip(spec.exit_points[:-1], spec.heads, strict=False)
        if heads
    }
    pieces = Pieces(store.precision, tuple(store.pieces), store.folder)
    for name, choices in probes.items():
        path = store.folder / f"{name}.tflite"
        link_configuration(pieces, spec, Configuration(choices), path)
        store.add(name, "probe", path.read_bytes())


class PieceStore:
    """Writes pieces into a folder and verifies each as it comes."""

    def __init__(self, folder: Path, precision: Precision) -> None:
        self.folder = folder
        self.precision = precision
        self.pieces: list[Piece] = []

    def add(self, name: str, kind: PieceKind, content: bytes) -> None:
        path = self.folder / f"{name}.tflite"
        path.write_bytes(content)
        graph = check_piece(path, name, kind, self.precision)
        self.pieces.append(
            Piece(
                name=name,
                kind=kind,
                file=path.name,
                sha256=hashlib.sha256(content).hexdigest(),
                inputs=_infos(graph, graph.inputs),
                outputs=_infos(graph, graph.outputs),
                macs=count_macs(graph),
                size_bytes=len(content),
            )
        )


def _infos(graph: Graph, tensors: Sequence[int]) -> tuple[TensorInfo, ...]:
    return tuple(graph.info(tensor) for tensor in tensors)


def _check_images(
    images: Sequence[np.ndarray] | None, spec: SupernetSpec, precision: Precision
) -> list[np.ndarray] | None:
    if precision == "float32":
        return None
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


def _swap(new: Path, folder: Path) -> None:
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)

"""The supernet: a backbone with all candidate heads, as one flat functional model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from mess_tf.core.errors import MessError
from mess_tf.core.files import UNREADABLE, write_atomically
from mess_tf.core.piece_names import IMAGE_TENSOR, head_name
from mess_tf.core.supernet_spec import OWN, ExitPoint, HeadSpec, SupernetSpec
from mess_tf.models.backbones import BlockEnd, get_backbone
from mess_tf.models.exit_placement import place_exits
from mess_tf.models.flatten import output_of
from mess_tf.models.heads import build_head
from mess_tf.models.macs import layer_macs
from mess_tf.recipe.settings import check_image_size


@dataclass(frozen=True, eq=False)
class Supernet:
    """A supernet's structure and its Keras model.

    Attributes:
        spec: structure.
        model: flat functional model: image float32 (B, H, W, 3), normalised, to the
            native-grid logits of every head, in the order of ``spec.head_names()``.
    """

    spec: SupernetSpec
    model: keras.Model

    def exit_tensors(self) -> list[Any]:
        """The exit points' Keras tensors, in order of depth."""
        return [output_of(self.model, p.layer) for p in self.spec.exit_points]

    def backbone(self) -> keras.Model:
        """Model from the image to all exit tensors; shares layers with ``model``."""
        return keras.Model(self.model.input, self.exit_tensors(), name="backbone")

    def final_logits(self) -> Any:
        """The Keras tensor of the final exit's logits."""
        final = head_name(len(self.spec.exit_points), self.spec.final_head.id)
        return self.model.get_layer(f"{final}_logits").output

    def head_inputs(self, exit_index: int, ids: Sequence[str]) -> tuple[int, ...]:
        """Exit points that heads read: their own first, then skips, deepest first."""
        skips = {skip for head_id in ids for skip in HeadSpec.parse(head_id).skips}
        return (exit_index, *sorted(skips, reverse=True))

    def heads(self, exit_index: int, ids: Sequence[str]) -> keras.Model:
        """Model from ``head_inputs`` to the heads' logits; shares ``model``'s layers.

        Args:
            exit_index: exit point of the heads, 1-based.
            ids: head ids, in the order of the outputs.
        """
        tensors = self.exit_tensors()
        outputs = [
            self.model.get_layer(f"{head_name(exit_index, i)}_logits").output
            for i in ids
        ]
        return keras.Model(
            [tensors[i - 1] for i in self.head_inputs(exit_index, ids)],
            outputs,
            name=f"heads_{exit_index}",
        )

    def at_size(self, height: int | None = None, width: int | None = None) -> Supernet:
        """The same network and weights with a fixed image size (default: spec's)."""
        size = (height or self.spec.image_height, width or self.spec.image_width)
        fixed = build_supernet(self.spec, size)
        fixed.model.set_weights(self.model.get_weights())
        return fixed

    def save(self, run_folder: Path) -> None:
        """Writes ``supernet.keras`` and ``supernet.json``, whole or not at all."""
        with write_atomically(run_folder / "supernet.keras") as temporary:
            self.model.save(temporary)
        self.spec.save(run_folder / "supernet.json")

    @classmethod
    def load(cls, run_folder: Path) -> Supernet:
        """Reads a trained supernet (any image size).

        Raises:
            MessError: not trained yet, or a file is broken or does not fit.
        """
        spec = SupernetSpec.load(run_folder / "supernet.json")
        path = run_folder / "supernet.keras"
        if not path.is_file():
            raise MessError(f"No trained supernet at {path}. Run `mess train` first.")
        supernet = build_supernet(spec)
        try:
            supernet.model.load_weights(path)
        except UNREADABLE as error:
            reason = str(error).splitlines()[0]
            raise MessError(
                f"{path} cannot be read as this supernet's weights: {reason}. Train"
                " again or restore the file."
            ) from error
        return supernet


def design_supernet(
    backbone: str,
    classes: Sequence[str],
    *,
    image_size: tuple[int, int],
    final_heads: Sequence[HeadSpec],
    early_heads: Sequence[HeadSpec] | Mapping[int, Sequence[HeadSpec]],
    backbone_options: Mapping[str, Any] | None = None,
    output_stride: int = 16,
    exits: int = 6,
    exit_layers: Sequence[str] = (),
    head_options: Mapping[str, Any] | None = None,
    logits_stride: int = 4,
    ignore_label: int = 255,
) -> SupernetSpec:
    """Lays out a supernet: places the exit points and checks that all heads fit.

    Args:
        backbone: registered name, or ``adopted`` (see ``mess_tf.models.adoption``).
        classes: class names in label order.
        image_size: (height, width) in pixels of the deployed network's input.
        final_heads: candidate heads of the final exit; the first is *the* final head.
        early_heads: candidate heads of every early exit, or per exit index. A head of
            the common list whose skips are not all earlier than an exit, and on finer
            grids, is left out there; in a list for one exit it is an error.
        backbone_options: e.g. ``{"alpha": 0.5}``.
        output_stride: 8, 16 or 32; of an adopted network its coarsest.
        exits: exit points, the final one included, placed at equal MACs.
        exit_layers: layer names instead of ``exits``; the last block is always added.
        head_options: overrides of the backbone's head widths and ASPP rates.
        logits_stride: stride of the grid on which all exits' logits leave.
        ignore_label: label that counts nowhere.
    """
    entry = get_backbone(backbone, output_stride, backbone_options)
    options = {**entry.options, **(backbone_options or {})}
    unknown = set(options) - set(entry.options)
    if unknown:
        raise MessError(
            f"Backbone {backbone!r} has no option {sorted(unknown)}; accepted:"
            f" {sorted(entry.options)}."
        )
    height, width = image_size
    check_image_size(height, width, max(output_stride, logits_stride))
    image = keras.Input((height, width, 3), name=IMAGE_TENSOR)
    ends = entry.build(image, output_stride, options)
    macs = [_macs_up_to(image, end) for end in ends]
    positions = (
        _named_positions(ends, exit_layers) if exit_layers else place_exits(macs, exits)
    )
    points = tuple(
        ExitPoint(
            index=index,
            layer=ends[position].layer,
            stride=ends[position].stride,
            channels=int(ends[position].tensor.shape[-1]),
            macs=macs[position],
        )
        for index, position in enumerate(positions, start=1)
    )
    heads = [_heads_of(point.index, points, early_heads) for point in points[:-1]]
    heads.append(tuple(final_heads))
    spec = SupernetSpec(
        backbone=backbone,
        backbone_options=options,
        output_stride=output_stride,
        image_height=height,
        image_width=width,
        classes=tuple(classes),
        ignore_label=ignore_label,
        exit_points=points,
        heads=tuple(heads),
        output_stride_of_logits=logits_stride,
        head_options={**entry.head_options, **(head_options or {})},
        preprocessing=entry.preprocessing,
        own_stride=options.get("end_stride"),
    )
    _check_heads(spec)
    return spec


def _macs_up_to(image: Any, end: BlockEnd) -> int:
    return sum(layer_macs(layer) for layer in keras.Model(image, end.tensor).layers)


def _named_positions(ends: Sequence[BlockEnd], names: Sequence[str]) -> tuple[int, ...]:
    layers = [end.layer for end in ends]
    for name in names:
        if name not in layers:
            raise MessError(
                f"Exit layer {name!r} is no block end of this backbone; accepted:"
                f" {', '.join(layers)}."
            )
    return tuple(sorted({layers.index(name) for name in names} | {len(ends) - 1}))


def _heads_of(
    index: int,
    points: Sequence[ExitPoint],
    early: Sequence[HeadSpec] | Mapping[int, Sequence[HeadSpec]],
) -> tuple[HeadSpec, ...]:
    if isinstance(early, Mapping):
        return tuple(early.get(index, ()))
    return tuple(head for head in early if _skips_fit(index, points, head))


def _skips_fit(index: int, points: Sequence[ExitPoint], head: HeadSpec) -> bool:
    """Whether a head reads earlier exit points, each on a grid as fine or finer."""
    if any(skip >= index for skip in head.skips):
        return False
    strides = [points[i - 1].stride for i in (index, *head.skips)]
    return all(a % b == 0 for a, b in zip(strides, strides[1:], strict=False))


def _check_heads(spec: SupernetSpec) -> None:
    if not spec.heads[-1]:
        raise MessError("The final exit needs at least one head.")
    for point, heads in zip(spec.exit_points, spec.heads, strict=True):
        if len(set(heads)) != len(heads):
            raise MessError(f"Exit {point.index} lists a head twice.")
        for head in heads:
            if not _skips_fit(point.index, spec.exit_points, head):
                raise MessError(
                    f"Head {head.id} cannot sit at exit {point.index}: its skips"
                    f" {head.skips} must be earlier exit points, on grids as fine as"
                    " that of the exit or finer."
                )
            if head.kind == OWN and (
                point is not spec.exit_points[-1] or spec.own_stride is None
            ):
                raise MessError(
                    "Head 'own' is an adopted network's own end: it sits at the final"
                    " exit, and only there."
                )
            finest = spec.head_stride(point.index, head)
            if finest % spec.output_stride_of_logits:
                raise MessError(
                    f"Head {head.id} of exit {point.index} has stride {finest}, finer"
                    f" than the logits' stride {spec.output_stride_of_logits}; set"
                    f" logits_stride to {finest}."
                )


def build_supernet(
    spec: SupernetSpec, image_size: tuple[int, int] | None = None
) -> Supernet:
    """Builds the Keras model of a structure, randomly initialised.

    Args:
        spec: the structure.
        image_size: fixed (height, width), or None for any size, if it works at any.
    """
    entry = get_backbone(spec.backbone, spec.output_stride, spec.backbone_options)
    height, width = image_size or entry.only_size or (None, None)
    if entry.only_size not in (None, (height, width)):
        raise MessError(
            f"Image size {height}x{width} is not accepted: this network works only at"
            f" {entry.only_size}, since a layer of it has that size inside."
        )
    image = keras.Input((height, width, 3), name=IMAGE_TENSOR)
    ends = {
        end.layer: end
        for end in entry.build(image, spec.output_stride, spec.backbone_options)
    }
    at_exit = [ends[point.layer] for point in spec.exit_points]
    logits = []
    for point, end, heads in zip(spec.exit_points, at_exit, spec.heads, strict=True):
        for head in heads:
            skips = [at_exit[skip - 1] for skip in head.skips]
            logits.append(
                build_head(
                    end.tensor,
                    [(skip.tensor, skip.stride) for skip in skips],
                    head,
                    point.index,
                    stride=end.stride,
                    dilation=end.dilation,
                    classes=len(spec.classes),
                    backbone=entry,
                    options=spec.head_options,
                )
            )
    return Supernet(spec, keras.Model(image, logits, name="supernet"))

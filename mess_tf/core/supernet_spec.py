"""Structure of a supernet: exit points, candidate heads, preprocessing; no weights."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mess_tf.core.errors import MessError
from mess_tf.core.json_files import read_record, write_record

SUPERNET_SCHEMA = 1
"""Version of ``supernet.json``."""

HeadKind = Literal["fcn", "dlb", "own"]
REDUCTIONS = (1, 2, 4, 8)
EXTRA_BLOCKS = (0, 1, 2, 3)
KINDS: tuple[HeadKind, ...] = ("fcn", "dlb")
"""Of the head space; ``own`` is no choice but what an adopted network ends in."""
OWN = "own"
_HEAD_ID = re.compile(
    r"(?P<kind>fcn|dlb)_r(?P<reduction>\d+)_b(?P<blocks>\d+)"
    r"(?P<rapid>_rdi)?(?P<skips>(_s\d+)*)"
)


@dataclass(frozen=True, order=True)
class HeadSpec:
    """One point of the head space of an exit (channel reduction, extra blocks,
    rapid dilation, type, skips).

    Attributes:
        kind: ``fcn`` or ``dlb`` (DeepLabV3's ASPP), or ``own``: what an adopted network
            itself ends in, with nothing else set.
        reduction: divisor of the channels that enter the head (1x1 convolution); 1 is
            none.
        blocks: extra trainable blocks of the backbone's kind.
        rapid_dilation: dilation doubles from extra block to extra block.
        skips: earlier exit points (1-based, at most two, deepest first) whose features
            the head reads too.
    """

    kind: HeadKind = "fcn"
    reduction: int = 1
    blocks: int = 0
    rapid_dilation: bool = False
    skips: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in (*KINDS, OWN):
            raise MessError(
                f"Head kind {self.kind!r} is unknown; accepted: {(*KINDS, OWN)}."
            )
        others = (self.reduction, self.blocks, self.rapid_dilation, self.skips)
        if self.kind == OWN and others != (1, 0, False, ()):
            raise MessError("Head 'own' is a network's own end and takes no settings.")
        if self.reduction not in REDUCTIONS:
            raise MessError(
                f"Head reduction {self.reduction} is not one of {REDUCTIONS}."
            )
        if self.blocks not in EXTRA_BLOCKS:
            raise MessError(f"Head blocks {self.blocks} is not one of {EXTRA_BLOCKS}.")
        if self.rapid_dilation and not self.blocks:
            raise MessError(
                "Rapid dilation needs at least one extra block: without blocks it"
                " changes nothing. Set blocks >= 1 or drop 'rdi'."
            )
        if len(self.skips) > 2 or list(self.skips) != sorted(
            set(self.skips), reverse=True
        ):
            raise MessError(
                f"Head skips {self.skips} must be at most two different exit points,"
                " deepest first."
            )

    @property
    def id(self) -> str:
        """The head's name in files, tensors, tables, e.g. ``dlb_r4_b2_rdi_s3_s1``."""
        if self.kind == OWN:
            return OWN
        rapid = "_rdi" if self.rapid_dilation else ""
        skips = "".join(f"_s{skip}" for skip in self.skips)
        return f"{self.kind}_r{self.reduction}_b{self.blocks}{rapid}{skips}"

    @classmethod
    def parse(cls, text: str) -> HeadSpec:
        """Reads a head id back. Raises MessError on anything else."""
        if text == OWN:
            return cls("own")
        match = _HEAD_ID.fullmatch(text)
        if match is None:
            raise MessError(
                f"Head id {text!r} cannot be read; expected e.g. 'fcn_r1_b0' or"
                " 'dlb_r4_b2_rdi_s3_s1'."
            )
        return cls(
            kind="fcn" if match["kind"] == "fcn" else "dlb",
            reduction=int(match["reduction"]),
            blocks=int(match["blocks"]),
            rapid_dilation=match["rapid"] is not None,
            skips=tuple(int(s) for s in re.findall(r"_s(\d+)", match["skips"])),
        )


@dataclass(frozen=True)
class ExitPoint:
    """A tensor of the backbone where a head may sit.

    Attributes:
        index: 1-based; the largest index is the final exit point.
        layer: name of the backbone layer whose output it is.
        stride: pixels of the image per cell.
        channels: channels of the tensor.
        macs: cumulative backbone MACs up to here at the supernet's image size, counted
            the paper's way (mess_tf.models.macs).
    """

    index: int
    layer: str
    stride: int
    channels: int
    macs: int


@dataclass(frozen=True)
class Preprocessing:
    """Network input = (RGB value in 0..255 - mean) / std, per channel."""

    mean: tuple[float, float, float] = (127.5, 127.5, 127.5)
    std: tuple[float, float, float] = (127.5, 127.5, 127.5)


@dataclass(frozen=True)
class SupernetSpec:
    """Structure of a supernet: enough to rebuild it and to name every tensor.

    Attributes:
        backbone: registered name, e.g. ``mobilenet_v2``, or ``adopted``.
        backbone_options: arguments of the backbone, e.g. ``{"alpha": 1.0}``; of an
            adopted network its graph (``mess_tf.models.imported_network``).
        output_stride: 8, 16 or 32; of an adopted network the coarsest one.
        image_height, image_width: pixels of the deployed network's input.
        classes: names, in label order.
        ignore_label: label that counts nowhere.
        exit_points: in order of depth; the last is the final exit point.
        heads: per exit point, its candidate heads. The first of the last exit point is
            *the* final head (trained in stage 1, the teacher in stage 2).
        output_stride_of_logits: all exits' logits are brought to this stride before
            they leave the network (see ``output_size``).
        head_options: widths and ASPP rates shared by all heads.
        preprocessing: of the image.
        own_stride: of the logits of an adopted network's end, None without one.
    """

    backbone: str
    backbone_options: Mapping[str, Any]
    output_stride: int
    image_height: int
    image_width: int
    classes: tuple[str, ...]
    ignore_label: int
    exit_points: tuple[ExitPoint, ...]
    heads: tuple[tuple[HeadSpec, ...], ...]
    output_stride_of_logits: int
    head_options: Mapping[str, Any]
    preprocessing: Preprocessing
    own_stride: int | None = None
    schema: int = SUPERNET_SCHEMA

    @property
    def final_head(self) -> HeadSpec:
        return self.heads[-1][0]

    @property
    def output_size(self) -> tuple[int, int]:
        """(height, width) of the logits that leave the network."""
        s = self.output_stride_of_logits
        return self.image_height // s, self.image_width // s

    def head_stride(self, exit_index: int, head: HeadSpec) -> int:
        """Stride of a head's native grid: that of its finest input."""
        if head.kind == OWN and self.own_stride is not None:
            return self.own_stride
        points = [exit_index, *head.skips]
        return min(self.exit_points[i - 1].stride for i in points)

    def head_size(self, exit_index: int, head: HeadSpec) -> tuple[int, int]:
        """(height, width) of the head's native grid of logits."""
        s = self.head_stride(exit_index, head)
        return self.image_height // s, self.image_width // s

    def with_heads(self, names: Iterable[tuple[int, str]]) -> SupernetSpec:
        """The same structure with the heads (exit index, head id) of ``names`` only."""
        wanted = set(names)
        heads = tuple(
            tuple(head for head in heads if (point.index, head.id) in wanted)
            for point, heads in zip(self.exit_points, self.heads, strict=True)
        )
        return dataclasses.replace(self, heads=heads)

    def head_names(self) -> tuple[tuple[int, str], ...]:
        """All (exit index, head id), in order of depth: the head axis of statistics."""
        return tuple(
            (point.index, head.id)
            for point, heads in zip(self.exit_points, self.heads, strict=True)
            for head in heads
        )

    def save(self, path: Path) -> None:
        """Writes ``supernet.json``."""
        write_record(path, self)

    @classmethod
    def load(cls, path: Path) -> SupernetSpec:
        """Reads ``supernet.json``; raises like ``read_record``."""
        made_by = f"mess train {path.parent}"
        return read_record(path, cls, "trained network", made_by, SUPERNET_SCHEMA)

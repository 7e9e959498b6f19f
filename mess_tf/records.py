"""What the packages hand to each other: small frozen records, stdlib and numpy only.

Every record that is stored carries a schema number and survives a round trip through
JSON (or ``.npz`` for the arrays). Nothing here imports Keras, TensorFlow or another
package of this project.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from mess_tf.errors import MessError
from mess_tf.files import UNREADABLE, write_atomically

SCHEMA = 1

HeadKind = Literal["fcn", "dlb", "own"]
PieceKind = Literal["segment", "head", "decision", "output", "probe"]
Precision = Literal["float32", "float16", "dynamic", "int8", "int8-qat"]
"""Weights and activations: both float32; float16 weights, float32 activations; int8
weights, float32 activations; both int8, ranges from calibration or from training."""
CalibrationMethod = Literal["minmax", "percentile", "mse"]

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
"""float32 first: the others are told beside it."""
CONVERTED: tuple[Precision, ...] = ("float32", "float16", "dynamic", "int8")
"""What ``mess compile`` makes; int8-qat comes from training."""
CALIBRATION_METHODS: tuple[CalibrationMethod, ...] = get_args(CalibrationMethod)

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
        blocks: extra trainable blocks of the backbone's own kind.
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
            the paper's way (mess_tf.macs).
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
            adopted network its graph (``mess_tf.models.adopted``).
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
        own_stride: of the logits of an adopted network's own end, None without one.
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
    schema: int = SCHEMA

    @property
    def final_head(self) -> HeadSpec:
        return self.heads[-1][0]

    @property
    def output_size(self) -> tuple[int, int]:
        """(height, width) of the logits that leave the network."""
        s = self.output_stride_of_logits
        return self.image_height // s, self.image_width // s

    def head_stride(self, exit_index: int, head: HeadSpec) -> int:
        """Stride of a head's own grid: that of its finest input."""
        if head.kind == OWN and self.own_stride is not None:
            return self.own_stride
        points = [exit_index, *head.skips]
        return min(self.exit_points[i - 1].stride for i in points)

    def head_size(self, exit_index: int, head: HeadSpec) -> tuple[int, int]:
        """(height, width) of the head's own (native) grid of logits."""
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
        write_json(path, dataclasses.asdict(self))

    @classmethod
    def load(cls, path: Path) -> SupernetSpec:
        data = read_json(path, "trained network", f"mess train {path.parent}")
        data["exit_points"] = tuple(ExitPoint(**p) for p in data["exit_points"])
        data["heads"] = tuple(
            tuple(HeadSpec(**{**h, "skips": tuple(h["skips"])}) for h in heads)
            for heads in data["heads"]
        )
        data["classes"] = tuple(data["classes"])
        data["preprocessing"] = Preprocessing(
            **{k: tuple(v) for k, v in data["preprocessing"].items()}
        )
        return cls(**data)


# --- Names of tensors and pieces --------------------------------------------------


IMAGE_TENSOR = "image"


def exit_tensor(index: int) -> str:
    """Tensor name of exit point ``index``'s features in every converted graph."""
    return f"exit_{index}"


def head_name(exit_index: int, head_id: str) -> str:
    """Piece name and output tensor name of a head."""
    return f"head_{exit_index}_{head_id}"


def segment_name(index: int) -> str:
    """Piece name of the backbone segment that ends at exit point ``index``."""
    return f"segment_{index}"


def decision_name(policy: str, size: tuple[int, int]) -> str:
    """Piece name of a policy's decision on logits of (height, width) ``size``.

    The pixel threshold is no part of it: it is a constant that costs nothing. The exit
    that a policy compares with (``region_2``) is.
    """
    return f"decision_{policy.split('@')[0]}_{size[0]}x{size[1]}"


def output_name(size: tuple[int, int]) -> str:
    """Piece name of what brings logits of (height, width) ``size`` to the output."""
    return f"output_{size[0]}x{size[1]}"


WHOLE_PROBE = "probe_whole"
"""Piece name of the final network in one file: what its pieces cost together."""


def is_probe(piece_name: str) -> bool:
    """Whether a piece is measured for what putting pieces together costs."""
    return piece_name.startswith("probe_")


def single_probe(exit_index: int) -> str:
    """Piece name of the network that ends at exit ``exit_index``, in one file."""
    return f"probe_single_{exit_index}"


def branch_probe(exit_index: int) -> str:
    """Piece name of the final network behind one IF after exit ``exit_index``."""
    return f"probe_branch_{exit_index}"


def branch_name(exit_index: int) -> str:
    """Name, among latencies, of what going on behind exit ``exit_index``'s IF costs."""
    return f"branch_{exit_index}"


@dataclass(frozen=True)
class TensorInfo:
    """A tensor at a piece's border; ``scale`` is 0 for float tensors."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float = 0.0
    zero_point: int = 0


@dataclass(frozen=True)
class Piece:
    """One ``.tflite`` cut from the supernet.

    Attributes:
        name: see ``segment_name``, ``head_name``, ``decision_name``, ``output_name``,
            ``WHOLE_PROBE``, ``single_probe`` and ``branch_probe``.
        file: file name, relative to the folder of ``pieces.json``.
        sha256: of the file.
        macs: counted from the operators, at batch 1.
        size_bytes: of the file.
    """

    name: str
    kind: PieceKind
    file: str
    sha256: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    macs: int
    size_bytes: int


def has_int8_activations(precision: Precision) -> bool:
    """Whether values between operators are int8 (weights are int8 in more)."""
    return precision in ("int8", "int8-qat")


@dataclass(frozen=True)
class Pieces:
    """Contents of ``pieces.json``; ``folder`` is where it was read from.

    Attributes:
        made: how the numbers came about, e.g. calibration method and images; goes onto
            the cards of what is exported.
    """

    precision: Precision
    pieces: tuple[Piece, ...]
    folder: Path
    made: Mapping[str, Any] = field(default_factory=dict)
    schema: int = SCHEMA

    def __getitem__(self, name: str) -> Piece:
        for piece in self.pieces:
            if piece.name == name:
                return piece
        raise MessError(
            f"No piece named {name!r} in {self.folder}; run `mess compile` again."
        )

    def path(self, name: str) -> Path:
        return self.folder / self[name].file

    def part_of(self, spec: SupernetSpec) -> SupernetSpec:
        """``spec`` with the heads that have a piece here: all, or those of a choice."""
        names = {piece.name for piece in self.pieces if piece.kind == "head"}
        kept = [name for name in spec.head_names() if head_name(*name) in names]
        return spec.with_heads(kept)

    def save(self) -> None:
        data = dataclasses.asdict(self)
        del data["folder"]
        write_json(self.folder / "pieces.json", data)

    @classmethod
    def load(cls, folder: Path) -> Pieces:
        run = folder.parent.parent
        made_by = f"mess compile {run} --precision {folder.name}"
        if folder.name == "int8-qat":
            made_by = f"mess quantise {run}"
        data = read_json(folder / "pieces.json", "list of pieces", made_by)

        def tensors(items: list[dict[str, Any]]) -> tuple[TensorInfo, ...]:
            return tuple(TensorInfo(**{**t, "shape": tuple(t["shape"])}) for t in items)

        data["pieces"] = tuple(
            Piece(
                **{
                    **p,
                    "inputs": tensors(p["inputs"]),
                    "outputs": tensors(p["outputs"]),
                }
            )
            for p in data["pieces"]
        )
        return cls(folder=folder, **data)


# --- Statistics -------------------------------------------------------------------

_PARAMETERS = "parameters_"  # before a policy family's name in the file


@dataclass(frozen=True, eq=False)
class Statistics:
    """What every head does on every image; the raw material of the search.

    Attributes:
        images: names, I of them.
        groups: per image, the sequence or scene it comes from.
        parts: per image ``calibration`` or ``report``; the search sees the first only.
        heads: (exit index, head id), H of them, as ``SupernetSpec.head_names``.
        true_area: int64 array of shape (I, C): pixels labelled c (ignored ones left
        out). predicted_area: int64 array of shape (I, H, C): valid pixels predicted as
        c. intersection: int64 array of shape (I, H, C): both.
        confidence: per policy key (``mean``, ``eq7@0.9``, ``eq7+9@0.9``) a float32
            array of shape (I, H), in 0..1, NaN where the policy was not evaluated:
            ``region_k`` is about heads of one exit alone.
        source: what was measured, e.g. ``pieces:int8`` or ``keras``.
        parameters: per fitted policy family (``cbt``, ``gate``) a float32 array of
            shape (H, P), the numbers that its confidences were computed with.

    A data set's IoU of class c is sum(intersection) / sum(true + predicted -
    intersection), summed over images: never an average of per-image figures.
    """

    images: tuple[str, ...]
    groups: tuple[str, ...]
    parts: tuple[str, ...]
    heads: tuple[tuple[int, str], ...]
    classes: tuple[str, ...]
    true_area: np.ndarray
    predicted_area: np.ndarray
    intersection: np.ndarray
    confidence: Mapping[str, np.ndarray]
    source: str
    parameters: Mapping[str, np.ndarray] = field(default_factory=dict)
    schema: int = SCHEMA

    def parameters_of(self, policy: str, head: int) -> tuple[float, ...]:
        """A policy key's numbers at a head (its index); empty where it has none."""
        fitted = self.parameters.get(policy.split("@")[0])
        return () if fitted is None else tuple(fitted[head].tolist())

    def save(self, path: Path) -> None:
        """Writes one ``.npz``; no pickles inside."""
        arrays: dict[str, Any] = {
            "schema": np.int64(self.schema),
            "images": np.array(self.images),
            "groups": np.array(self.groups),
            "parts": np.array(self.parts),
            "head_exits": np.array([e for e, _ in self.heads], np.int64),
            "head_ids": np.array([h for _, h in self.heads]),
            "classes": np.array(self.classes),
            "source": np.array(self.source),
            "true_area": self.true_area,
            "predicted_area": self.predicted_area,
            "intersection": self.intersection,
            "policies": np.array(list(self.confidence)),
            "confidence": np.stack(list(self.confidence.values())),
        }
        for family, values in self.parameters.items():
            arrays[f"{_PARAMETERS}{family}"] = values
        with write_atomically(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)

    @classmethod
    def load(cls, path: Path) -> Statistics:
        if not path.is_file():
            which = (
                f"--precision {path.stem}" if path.stem != "keras" else "--from keras"
            )
            raise MessError(
                f"No statistics at {path}. Run `mess evaluate {path.parent.parent}"
                f" {which}` first."
            )
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as z:
                policies = z["policies"].tolist()
                return cls(
                    images=tuple(z["images"].tolist()),
                    groups=tuple(z["groups"].tolist()),
                    parts=tuple(z["parts"].tolist()),
                    heads=tuple(
                        zip(
                            z["head_exits"].tolist(),
                            z["head_ids"].tolist(),
                            strict=True,
                        )
                    ),
                    classes=tuple(z["classes"].tolist()),
                    true_area=z["true_area"],
                    predicted_area=z["predicted_area"],
                    intersection=z["intersection"],
                    confidence=dict(zip(policies, z["confidence"], strict=True)),
                    source=str(z["source"]),
                    parameters={
                        name.removeprefix(_PARAMETERS): z[name]
                        for name in z.files
                        if name.startswith(_PARAMETERS)
                    },
                    schema=int(z["schema"]),
                )
        except UNREADABLE as error:
            raise MessError(
                f"The statistics file {path} cannot be read ({error}); delete it and"
                " run `mess evaluate` again."
            ) from error


# --- Configurations -----------------------------------------------------------------


@dataclass(frozen=True)
class ExitChoice:
    """One kept exit of a configuration.

    Attributes:
        exit: exit point, 1-based.
        head: head id.
        policy: policy key with its pixel threshold (``eq7@0.9``); None on the last.
        threshold: the image leaves here if confidence >= threshold; None on the last.
        parameters: the head's own numbers of a fitted policy (``cbt``, ``gate``), as in
            the statistics; empty for others.
    """

    exit: int
    head: str
    policy: str | None = None
    threshold: float | None = None
    parameters: tuple[float, ...] = ()


@dataclass(frozen=True)
class Configuration:
    """The chosen exits in order of depth; the last one always answers."""

    exits: tuple[ExitChoice, ...]

    def __post_init__(self) -> None:
        if not self.exits:
            raise MessError("A configuration needs at least one exit.")
        order = [choice.exit for choice in self.exits]
        if order != sorted(set(order)):
            raise MessError(f"A configuration's exits must grow in depth; got {order}.")
        for choice in self.exits[:-1]:
            if choice.policy is None or choice.threshold is None:
                raise MessError(
                    f"Exit {choice.exit} is not the last: it needs policy and"
                    " threshold."
                )

    def to_json(self) -> list[dict[str, Any]]:
        # As JSON gives it back, so that both compare equal.
        return [
            {**dataclasses.asdict(choice), "parameters": list(choice.parameters)}
            for choice in self.exits
        ]

    @classmethod
    def from_json(cls, data: list[dict[str, Any]]) -> Configuration:
        return cls(
            tuple(
                ExitChoice(**{**c, "parameters": tuple(c.get("parameters", ()))})
                for c in data
            )
        )


# --- JSON ---------------------------------------------------------------------------


def write_json(path: Path, data: Any) -> None:
    """Writes ``data`` readable and whole or not at all."""
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def read_json(path: Path, what: str, command: str | None = None) -> Any:
    """Reads JSON; one line says what is missing or broken, and what makes it."""
    hint = f" Run `{command}` first." if command else ""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MessError(f"No {what} at {path}.{hint}") from None
    except (OSError, ValueError) as error:
        raise MessError(f"The {what} {path} cannot be read: {error}.") from error
    if isinstance(data, dict) and data.get("schema", SCHEMA) != SCHEMA:
        raise MessError(
            f"The {what} {path} has schema {data['schema']}; this version reads"
            f" {SCHEMA}."
        )
    return data

"""The sections of a recipe, one per step; the defaults are the supplement's protocol.

The rules that every section obeys are in ``mess_tf.recipe.settings``, those that span
two sections in ``mess_tf.recipe.recipe``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

from mess_tf.core.precisions import (
    CALIBRATION_METHODS,
    CONVERTED,
    CalibrationMethod,
    Precision,
)
from mess_tf.core.supernet_spec import EXTRA_BLOCKS, KINDS, REDUCTIONS, HeadSpec
from mess_tf.policies.registry import POLICIES
from mess_tf.recipe.settings import (
    Rule,
    Section,
    boolean,
    group_pattern,
    integer,
    list_of,
    number,
    one_of,
    setting,
    text,
)

ALL = "all"
DATA_KINDS = ("folder", "drawn", "voc", "coco", "cityscapes", "ade20k")
AUTO_DEEPLAB = ("auto_deeplab_s", "auto_deeplab_m", "auto_deeplab_l")
BACKBONES = ("mobilenet_v2", "resnet50", "resnet101", *AUTO_DEEPLAB)
NETWORK_FILE = ".keras"
BUILT_IN_WEIGHTS = ("imagenet", "random", "own")
Scheme = Literal["two-stage", "e2e", "frozen", "heads-only"]
ExitLoss = Literal["ce", "kd", "pfd", "pfd-full"]
OptimizerName = Literal["sgd", "adamw"]
Taught = Literal["final", "early"]
ExitPlacement = Literal["macs", "latency"]


@dataclass(frozen=True)
class Data(Section):
    """Where images and label maps come from, and how they are parted.

    Attributes:
        kind: ``folder`` (images/, masks/, classes.txt), ``drawn`` (made by us), or the
            official layout of ``voc``, ``coco``, ``cityscapes`` or ``ade20k``.
        path: of the folder; relative to the recipe's folder.
        sbd: folder of SBD, for VOC's split ``trainaug``; relative like ``path``.
        trainaug_images: how many images VOC's ``trainaug`` must have; 0 = any number.
        train, val: names of the splits.
        group: pattern whose first bracket is the image's group (video, scene);
            ``image``: every image shows a scene of its own. Empty is what fits the
            kind: the city of ``cityscapes``, 8 contiguous blocks of ``folder``, and
            ``image`` of the others.
        hold_out: last part of every training group, set aside for calibration, 0..1;
            with ``group = "image"`` that part of the images.
        calibration_fraction: of ``val``, the part that thresholds may see, 0..1.
        ignore_label: label that counts nowhere (``folder``).
        size: side of a drawn image in pixels.
        count_train, count_val: drawn images.
        seed: of what is drawn.
        workers: threads or processes that prepare batches.
        multiprocessing: processes instead of threads.
    """

    name: ClassVar[str] = "data"
    kind: str = setting("folder", one_of(*DATA_KINDS))
    path: str = setting("", text())
    sbd: str = setting("", text())
    trainaug_images: int = setting(10_582, integer(0))
    train: str = setting("train", text(empty=False))
    val: str = setting("val", text(empty=False))
    group: str = setting("", group_pattern())
    hold_out: float = setting(0.0, number(0, 0.9))
    calibration_fraction: float = setting(0.5, number(0, 1))
    ignore_label: int = setting(255, integer(0, 255))
    size: int = setting(128, integer(32, 1024))
    count_train: int = setting(1000, integer(1))
    count_val: int = setting(200, integer(2))
    seed: int = setting(0, integer(0))
    workers: int = setting(2, integer(0, 64))
    multiprocessing: bool = setting(False, boolean())


@dataclass(frozen=True)
class Network(Section):
    """The backbone, its exit points and the widths of its heads.

    Attributes:
        backbone: registered name, or the ``.keras`` file of a network of your own,
            relative to the recipe's folder.
        mean, std: of a network of your own: its input is (RGB 0..255 - mean) / std.
        alpha: width multiplier (MobileNetV2).
        output_stride: pixels of the image per cell of the last features; Auto-DeepLab
            takes 32, its coarsest; a network of your own has its own.
        height, width: pixels of the deployed network's input.
        weights: ``imagenet``, ``random`` (Auto-DeepLab takes no other) or a file,
            relative to the recipe's folder; for a network of your own ``own`` (those in
            its file), ``random`` or another file of it.
        exits: exit points, the final one included.
        exit_placement: ``macs`` (at equal steps of MACs) or ``latency``: at equal steps
            of the latency measured on ``profile.device``, of what an image that leaves
            there takes; heads that could save nothing are left out.
        exit_layers: layers to put exit points at instead; the last block is added.
        head_width, decoder_width, skip_width: channels of ASPP, merged skips and
            reduced skips; 0 = what fits the backbone.
        fcn_width: channels that an FCN head has at least; a quarter of its input is the
            paper's width. 0 = what fits the backbone.
        aspp_rates: dilation rates of DeepLabV3 heads; [] = by stride.
        logits_stride: stride of the grid on which all exits' logits leave.
    """

    name: ClassVar[str] = "network"
    backbone: str = setting(
        "mobilenet_v2",
        Rule(
            f"one of {', '.join(map(repr, BACKBONES))}, or a path that ends in"
            f" {NETWORK_FILE}",
            lambda v: _backbone(v),
        ),
    )
    mean: tuple[float, ...] = setting((), Rule("three numbers", lambda v: _rgb(v)))
    std: tuple[float, ...] = setting(
        (), Rule("three numbers above 0", lambda v: _rgb(v, above=0))
    )
    alpha: float = setting(1.0, number(0, 4, above=True))
    output_stride: int = setting(
        16, Rule("8, 16 or 32", lambda v: _among(v, 8, 16, 32))
    )
    height: int = setting(512, integer(32, 4096))
    width: int = setting(512, integer(32, 4096))
    weights: str = setting("imagenet", text(empty=False))
    exits: int = setting(6, integer(1, 64))
    exit_placement: ExitPlacement = setting("macs", one_of(*get_args(ExitPlacement)))
    exit_layers: tuple[str, ...] = setting((), list_of(text(empty=False)))
    head_width: int = setting(0, integer(0, 2048))
    fcn_width: int = setting(0, integer(0, 2048))
    decoder_width: int = setting(0, integer(0, 2048))
    skip_width: int = setting(0, integer(0, 2048))
    aspp_rates: tuple[int, ...] = setting((), list_of(integer(1, 64)))
    logits_stride: int = setting(
        4, Rule("1, 2, 4, 8 or 16", lambda v: _among(v, 1, 2, 4, 8, 16))
    )

    @property
    def is_imported(self) -> bool:
        """Whether it is an imported network, from a ``.keras`` file."""
        return self.backbone.endswith(NETWORK_FILE)

    @property
    def max_exits(self) -> int:
        """Exit points at most, the final one included."""
        return len(self.exit_layers) + 1 if self.exit_layers else self.exits

    def backbone_options(self) -> dict[str, Any]:
        """Options of the backbone that differ from its defaults."""
        return {} if self.alpha == 1.0 else {"alpha": self.alpha}

    def head_options(self) -> dict[str, Any]:
        """Head widths and rates that the recipe sets itself."""
        widths = ("head_width", "fcn_width", "decoder_width", "skip_width")
        names = (*widths, "aspp_rates")
        return {name: getattr(self, name) for name in names if getattr(self, name)}


@dataclass(frozen=True)
class Heads(Section):
    """Candidate heads, by id (``fcn_r1_b0``, ``dlb_r4_b2_rdi_s3_s1``).

    Attributes:
        final: *the* final head: trained in stage 1, the teacher in stage 2; ``own`` is
            what a network of your own itself ends in.
        more_final: further heads at the final exit point.
        early: ``"all"`` (the 56 specs without skips), a list for every early exit point
            (a head whose skips are not earlier is left out there), or a table per exit.
    """

    name: ClassVar[str] = "heads"
    final: str = setting("fcn_r1_b0", Rule("a head id", lambda v: _head(v)))
    more_final: tuple[str, ...] = setting(
        (), list_of(Rule("a head id", lambda v: _head(v)))
    )
    early: Any = setting(
        ALL,
        Rule(
            "'all', a list of head ids (none twice) or a table of lists per exit point"
            " such as { 1 = ['fcn_r1_b0'] }",
            lambda v: _early(v),
        ),
    )

    def final_heads(self) -> tuple[HeadSpec, ...]:
        """Heads of the final exit point; the first is the final head."""
        return tuple(HeadSpec.parse(head) for head in (self.final, *self.more_final))

    def early_heads(self) -> tuple[HeadSpec, ...] | dict[int, tuple[HeadSpec, ...]]:
        """Heads of every early exit point, or per exit point (1-based)."""
        if self.early == ALL:
            return head_space()
        if isinstance(self.early, Mapping):
            return {
                int(index): tuple(HeadSpec.parse(head) for head in heads)
                for index, heads in self.early.items()
            }
        return tuple(HeadSpec.parse(head) for head in self.early)


@dataclass(frozen=True)
class Training(Section):
    """Two stages, same optimiser and schedule form in both.

    What others do, by scheme and loss: MESS is two-stage with pfd; E2E is e2e with ce,
    SelfDistill e2e with kd, Frozen is frozen with ce, KD two-stage with kd.

    The supplement trains 60,000 iterations; with batches of 32 out of VOC's 10,582
    images that is 180 epochs.

    Attributes:
        scheme: ``two-stage``; ``e2e`` (all heads and the backbone jointly, in stage 1
            alone); ``frozen`` (stage 1 trains the final exit alone); ``heads-only`` (no
            stage 1: a trained network of your own stays as it is, bit for bit).
        loss: of early exits in stage 2 (in stage 1 for ``e2e``), with the final exit as
            teacher: ``pfd``, ``pfd-full`` (its other reading), ``kd`` or ``ce`` (none).
        start: folder of a trained run with whose weights training begins, by layer,
            relative to the recipe's folder; '' = the network's, and random heads.
        seed: of weights, order and augmentation.
        batch: images per step.
        stage1_epochs: backbone, final head and early exits in turns.
        early_exits_per_step: early exits that count in one step of stage 1, taken in
            round-robin; 1 is the paper's, more shape the backbone more for early exits.
        stage2_epochs: all other heads on the frozen backbone.
        stage2_min_gain_pp: stage 2 ends after an epoch in which no head gained as many
            points of mIoU (on the calibration part) over its best before; 0 = never.
        optimizer: ``sgd`` or ``adamw``.
        learning_rate, stage2_learning_rate: before decay.
        momentum: of SGD.
        weight_decay: per step.
        power: of the poly decay.
        warmup_steps: with a growing rate.
        alpha: weight of the teacher against the labels.
        teacher: folder of a trained run of the same classes whose final exit teaches
            (ours), relative to the recipe's folder; '' = none.
        taught: whom it teaches: the ``final`` exit, by kd in stage 1, so that a
            stronger one teaches the early exits; the ``early`` exits themselves, in the
            final exit's place; or both.
        class_balance: how much pixels of rare classes gain in the loss: 0 = nothing,
            1 = median-frequency balancing.
        scale_min, scale_max: random rescaling.
        crop: side of the random crop as a part of the network's input.
        flip: probability of a mirror image.
        jitter: strength of random brightness, contrast and saturation; 0 = none.
        loss_stride: the loss is taken at every so many pixels.
        mixed_precision: compute in bfloat16; weights, batch normalisations and losses
            stay float32. For machines that have it in hardware.
        devices: that share every batch (data parallel, by Keras' distribution,
            which runs on its JAX backend alone); a divisor of ``batch``.
    """

    name: ClassVar[str] = "training"
    scheme: Scheme = setting("two-stage", one_of(*get_args(Scheme)))
    loss: ExitLoss = setting("pfd", one_of(*get_args(ExitLoss)))
    start: str = setting("", text())
    seed: int = setting(0, integer(0))
    batch: int = setting(32, integer(1, 4096))
    stage1_epochs: int = setting(180, integer(1))
    stage2_epochs: int = setting(180, integer(1))
    stage2_min_gain_pp: float = setting(0.0, number(0, 100))
    early_exits_per_step: int = setting(1, integer(1, 64))
    optimizer: OptimizerName = setting("sgd", one_of(*get_args(OptimizerName)))
    learning_rate: float = setting(0.02, number(0, above=True))
    stage2_learning_rate: float = setting(0.02, number(0, above=True))
    momentum: float = setting(0.9, number(0, 0.999))
    weight_decay: float = setting(1e-4, number(0, 1))
    power: float = setting(0.9, number(0, above=True))
    warmup_steps: int = setting(0, integer(0))
    alpha: float = setting(0.5, number(0, 1))
    teacher: str = setting("", text())
    taught: tuple[Taught, ...] = setting(
        ("final",), list_of(one_of(*get_args(Taught)), least=1)
    )
    class_balance: float = setting(0.0, number(0, 1))
    scale_min: float = setting(0.5, number(0.1, 10))
    scale_max: float = setting(2.0, number(0.1, 10))
    crop: float = setting(0.9, number(0.1, 2))
    flip: float = setting(0.5, number(0, 1))
    jitter: float = setting(0.0, number(0, 1))
    loss_stride: int = setting(1, integer(1, 32))
    mixed_precision: bool = setting(False, boolean())
    devices: int = setting(1, integer(1, 4096))


@dataclass(frozen=True)
class StatisticsSettings(Section):
    """Which policies are evaluated, at which pixel thresholds.

    Attributes:
        fit_images: training images, at most, that fitted policies (cbt, gate)
            are fitted on.
    """

    name: ClassVar[str] = "statistics"
    # Those with fitted numbers and region gained nothing over these (docs/results.md),
    # and every further family makes the search longer.
    policies: tuple[str, ...] = setting(
        ("mean", "eq7", "eq7+9", "entropy"), list_of(one_of(*POLICIES), least=1)
    )
    pixel_thresholds: tuple[float, ...] = setting(
        (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99),
        list_of(number(0, 1, above=True)),
    )
    fit_images: int = setting(256, integer(2))


@dataclass(frozen=True)
class Compile(Section):
    """Precisions to convert to, and what int8's ranges come from.

    Attributes:
        precisions: float32, float16 (weights), dynamic (int8 weights), int8.
        calibration_images: training images that int8's ranges are taken from.
        calibration_method: ``minmax`` keeps every value in range, ``percentile`` cuts
            the outermost 0.01 % at either end, ``mse`` makes the error least.
    """

    name: ClassVar[str] = "compile"
    precisions: tuple[Precision, ...] = setting(
        ("float32", "int8"), list_of(one_of(*CONVERTED), least=1)
    )
    calibration_images: int = setting(32, integer(1))
    calibration_method: CalibrationMethod = setting(
        "minmax", one_of(*CALIBRATION_METHODS)
    )


@dataclass(frozen=True)
class Quantise(Section):
    """Fine-tuning under fake quantisation; batches and losses are training's.

    Attributes:
        epochs: over the training images.
        learning_rate: before decay, as a part of training's.
        settled: part of the steps after which batch-norm statistics and ranges stay as
            they are, so that what is trained is what is deployed.
    """

    name: ClassVar[str] = "quantise"
    epochs: int = setting(4, integer(1))
    learning_rate: float = setting(0.1, number(0, 1, above=True))
    settled: float = setting(0.5, number(0, 1))


@dataclass(frozen=True)
class Profile(Section):
    """The device, its threads and how long is measured."""

    name: ClassVar[str] = "profile"
    device: str = setting("host", text(empty=False))
    threads: int = setting(1, integer(1, 64))
    preset: Literal["quick", "report"] = setting("quick", one_of("quick", "report"))


@dataclass(frozen=True)
class Search(Section):
    """The space of configurations and the requirements to answer.

    Attributes:
        max_early_exits: before the exit that always answers.
        drops_pp: accepted losses of mIoU against the final exit, absolute points.
        thresholds_per_policy: image thresholds that are tried per policy and head.
    """

    name: ClassVar[str] = "search"
    max_early_exits: int = setting(3, integer(0, 8))
    drops_pp: tuple[float, ...] = setting(
        (0.0, 1.0, 2.0), list_of(number(0, 100), least=1)
    )
    thresholds_per_policy: int = setting(24, integer(1, 10_000))


SECTIONS: dict[str, type[Section]] = {
    kind.name: kind
    for kind in (
        Data,
        Network,
        Heads,
        Training,
        StatisticsSettings,
        Compile,
        Quantise,
        Profile,
        Search,
    )
}


def head_space() -> tuple[HeadSpec, ...]:
    """The 56 distinct heads without skips of an exit point."""
    return tuple(
        HeadSpec(kind, reduction, blocks, rapid)
        for kind in KINDS
        for reduction in REDUCTIONS
        for blocks in EXTRA_BLOCKS
        for rapid in ((False, True) if blocks else (False,))
    )


def _among(value: Any, *accepted: int) -> int:
    if isinstance(value, bool) or value not in accepted:
        raise ValueError
    return int(value)


def _backbone(value: Any) -> str:
    if value in BACKBONES or (isinstance(value, str) and value.endswith(NETWORK_FILE)):
        return str(value)
    raise ValueError


def _rgb(value: Any, above: float = -math.inf) -> tuple[float, ...]:
    if not isinstance(value, list | tuple) or len(value) not in (0, 3):
        raise ValueError
    return tuple(number(above, above=True).read(item) for item in value)


def _head(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError
    return HeadSpec.parse(value).id


def _early(value: Any) -> Any:
    if value == ALL:
        return ALL
    heads = list_of(Rule("a head id", _head))
    if not isinstance(value, Mapping):
        return heads.read(value)
    tables = {str(index): heads.read(ids) for index, ids in value.items()}
    if not all(index.isdecimal() and int(index) >= 1 for index in tables):
        raise ValueError
    return tables

"""The card of an export: contents, promised accuracy and latency, and sources."""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mess_tf.commands.card_records import (
    Card,
    CardExit,
    CardLatency,
    FloatOperator,
    ImageInput,
    Inventory,
    Thresholds,
)
from mess_tf.commands.latencies import Latencies, Unmeasured, measured_latencies
from mess_tf.core.configuration import ExitChoice
from mess_tf.core.files import sha256_of
from mess_tf.core.piece_names import decision_name, head_name, segment_name
from mess_tf.core.pieces import Pieces, TensorInfo
from mess_tf.core.precisions import Precision
from mess_tf.core.statistics import Statistics
from mess_tf.core.supernet_spec import HeadSpec, SupernetSpec
from mess_tf.data.dataset import open_dataset
from mess_tf.evaluation.accuracy import head_miou
from mess_tf.exporting.options import ExportForm
from mess_tf.runs import RECIPE, Run
from search.anytime import AnytimeResult
from search.result import Outcome, SearchResult

_VERSIONS = ("mess-tf", "tensorflow", "keras", "ai-edge-litert", "numpy")
_PARTS: tuple[Literal["report", "calibration"], ...] = ("report", "calibration")


@dataclass(frozen=True, eq=False)
class Source:
    """What the exports of one call are made of.

    Attributes:
        run: the run folder.
        spec: of its supernet.
        pieces: of the precision.
        statistics: of the same pieces.
        latencies: of the same pieces on the device.
    """

    run: Run
    spec: SupernetSpec
    pieces: Pieces
    statistics: Statistics
    latencies: Latencies

    @functools.cached_property
    def palette(self) -> tuple[tuple[int, int, int], ...]:
        """RGB per class, 0..255. Only here the data set itself is needed."""
        colours = open_dataset(self.run.recipe.data).train.palette.tolist()
        return tuple((red, green, blue) for red, green, blue in colours)

    @classmethod
    def open(
        cls,
        run: Run,
        precision: Precision,
        device: str | None = None,
        threads: int | None = None,
        unmeasured_heads: Unmeasured = "refuse",
    ) -> Source:
        """Reads all of it; see ``measured_latencies`` for the errors."""
        return cls(
            run=run,
            spec=SupernetSpec.load(run.supernet_structure),
            statistics=Statistics.load(run.statistics(precision)),
            pieces=Pieces.load(run.pieces(precision)),
            latencies=measured_latencies(
                run, precision, device, threads, unmeasured_heads
            ),
        )


@dataclass(frozen=True, eq=False)
class Choice:
    """What of a search is exported.

    Attributes:
        result: of the search.
        outcome: the one of the result's outcomes that is exported; None in the anytime
            setting, where the result has no others.
    """

    result: SearchResult | AnytimeResult
    outcome: Outcome | None = None

    @property
    def exits(self) -> tuple[ExitChoice, ...]:
        """The exits in order of depth; without thresholds in the anytime setting."""
        if self.outcome is not None:
            return self.outcome.configuration.exits
        if isinstance(self.result, AnytimeResult):
            return tuple(ExitChoice(one.exit, one.head) for one in self.result.exits)
        return self.result.configuration.exits


def make_card(
    source: Source,
    choice: Choice,
    form: ExportForm,
    files: Sequence[Path],
    tensors: tuple[TensorInfo, TensorInfo | None],
    name: str,
) -> Card:
    """The card as it goes into the file; what only the finished file tells is absent.

    Args:
        source: what the export is made of.
        choice: what is exported.
        form: of the export.
        files: all ``.tflite`` files of the export.
        tensors: the image input, and the output of logits (None without).
        name: of the export.
    """
    from mess_tf.exporting.inventory import float_operators, inventory

    pieces, spec = source.pieces, source.spec
    image, logits = tensors
    result = choice.result
    routed = None if isinstance(result, AnytimeResult) else result
    progressive = result if isinstance(result, AnytimeResult) else None
    early = tuple(one.threshold for one in choice.exits[:-1])
    return Card(
        name=name,
        form=form,
        precision=pieces.precision,
        quantisation={"precision": pieces.precision, **pieces.made},
        input=ImageInput(**vars(image), holds=_image_encoding(source, image)),
        outputs=_outputs(form, spec, logits),
        thresholds=Thresholds(early, form.threshold_input),
        preprocessing=spec.preprocessing,
        classes=spec.classes,
        palette=source.palette,
        exits=_exits(source, choice.exits),
        inventory=Inventory(**inventory(files)),
        in_float=tuple(
            FloatOperator(**row) for row in float_operators(files, pieces.precision)
        ),
        requirement=None if routed is None else routed.requirement,
        promise=choice.outcome,
        best_static=None if routed is None else routed.best_static,
        reference=None if routed is None else routed.reference,
        latency=CardLatency(
            source.latencies.device,
            source.latencies.threads,
            source.latencies.preset,
            source.latencies.conditions,
        ),
        statistics_source=result.source,
        sources=_sources(source, choice.exits),
        versions={
            package: importlib.metadata.version(package) for package in _VERSIONS
        },
        anytime=progressive,
    )


def _image_encoding(source: Source, image: TensorInfo) -> str:
    """What the values of the image input are, and how pixels are normalised."""
    from mess_tf.exporting.model_io import folds_pixels

    if image.dtype == "float32":
        return "normalised values"
    if image.dtype == "int8":
        return "normalised values in steps of scale"
    piece_input = source.pieces[segment_name(1)].inputs[0]
    if folds_pixels(piece_input, source.spec.preprocessing):
        return "RGB pixels 0..255; p becomes the int8 value p - 128, without rounding"
    return "RGB pixels 0..255; normalised by one affine operator"


def _outputs(
    form: ExportForm, spec: SupernetSpec, logits: TensorInfo | None
) -> dict[str, TensorInfo | str]:
    height, width = form.answer_size(spec)
    outputs: dict[str, TensorInfo | str] = {}
    if logits is not None:
        outputs["logits"] = logits
    if form.gives_classes:
        shape = f"(1, {height}, {width})"
        outputs["classes"] = f"uint8 {shape}: class ids, as in 'classes'"
    if not form.has_plan:
        outputs["exit"] = "int32 (1,): exit point taken, 1-based"
    return outputs


def _exits(source: Source, exits: Sequence[ExitChoice]) -> tuple[CardExit, ...]:
    """Per exit: where it sits, its rule, its accuracy alone, the MACs up to it.

    MACs include the decision's.
    """
    pieces, rows, macs, done = source.pieces, [], 0, 0
    for choice in exits:
        macs += sum(
            pieces[segment_name(k)].macs for k in range(done + 1, choice.exit + 1)
        )
        macs += pieces[head_name(choice.exit, choice.head)].macs
        if choice.policy is not None:
            # One that compares runs another head.
            size = source.spec.head_size(choice.exit, HeadSpec.parse(choice.head))
            macs += pieces[decision_name(choice.policy, size)].macs
        done = choice.exit
        head = (choice.exit, choice.head)
        rows.append(
            CardExit(
                **vars(choice),
                layer=source.spec.exit_points[choice.exit - 1].layer,
                macs=macs,
                miou={p: head_miou(source.statistics, head, p) for p in _PARTS},
            )
        )
    return tuple(rows)


def _sources(
    source: Source, exits: Sequence[ExitChoice]
) -> dict[str, str | dict[str, str]]:
    """Digests of everything that went in."""
    run, last = source.run, exits[-1].exit
    names = [segment_name(k) for k in range(1, last + 1)]
    names += [head_name(choice.exit, choice.head) for choice in exits]
    files = {
        RECIPE: run.folder / RECIPE,
        "supernet.keras": run.supernet_weights,
        "statistics": run.statistics(source.pieces.precision),
    }
    return {
        **{name: sha256_of(path) for name, path in files.items() if path.is_file()},
        "pieces": {name: source.pieces[name].sha256 for name in names},
    }

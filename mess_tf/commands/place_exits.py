"""Exit points at equal steps of measured latency, before anything is trained.

What leaving at an exit saves depends on the device: on many, most of the time passes
before a third of the MACs is done. So the network is cut at all places where it can be
(with random heads, which take as long as trained ones), every piece is measured on the
recipe's device, and exits are placed by what was measured.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from android_bench.profile import profile
from android_bench.records import MeasureSettings
from mess_tf.commands.compile import calibration_images
from mess_tf.core.errors import MessError
from mess_tf.core.json_files import read_record, write_record
from mess_tf.core.piece_names import head_name, segment_name
from mess_tf.core.pieces import PieceKind, Pieces
from mess_tf.core.precisions import Precision
from mess_tf.core.supernet_spec import SupernetSpec
from mess_tf.data.dataset import open_dataset
from mess_tf.models.exit_placement import TimedCandidate, place_exits_by_latency
from mess_tf.recipe.recipe import Recipe
from mess_tf.runs import Run
from mess_tf.terminal.progress import parallel_progress, progress

if TYPE_CHECKING:
    from mess_tf.models.supernet import Supernet

FILE = "exit_placement.json"
PLACEMENT_SCHEMA = 1
_RANGE_IMAGES = 4
"""Ranges of int8 do not change latencies: few images are enough."""


@dataclass(frozen=True)
class PlacedExit:
    """An early exit point, ``exit_placement.json``.

    Attributes:
        layer: whose output it reads.
        latency_ms: of the backbone up to there.
        head_latency_ms: by id, of the heads that are trained.
        left_out_ms: by id, of the heads by which leaving would save next to nothing.
    """

    layer: str
    latency_ms: float
    head_latency_ms: dict[str, float]
    left_out_ms: dict[str, float]


@dataclass(frozen=True)
class Placement:
    """What was measured before training and what follows from it.

    Attributes:
        schema: version of the file.
        device: name of the device, as given.
        precision: of what was measured.
        threads: CPU threads.
        network_ms: latency of the whole network: its segments and its final head.
        candidates: layers that were measured and the latency up to each, ms.
        exits: the early exit points.
    """

    schema: int
    device: str
    precision: Precision
    threads: int
    network_ms: float
    candidates: dict[str, float]
    exits: tuple[PlacedExit, ...]


def recipe_with_placed_exits(run: Run) -> Recipe:
    """A run's recipe with the exit layers and heads that measuring chose.

    Measured once: later calls read ``training/exit_placement.json``.

    Raises:
        MessError: no early exit can save anything, or the file is broken.
        BenchError: the device cannot be used.
    """
    path = run.checkpoints / FILE
    start = run.recipe.training.start
    if not path.is_file() and start and (there := _file_of(start)).is_file():
        path = there  # the heads that training begins with belong to those exits
    if path.is_file():
        placement = read_record(
            path, Placement, "exit placement", "mess train", PLACEMENT_SCHEMA
        )
    else:
        placement = _measure(run)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_record(path, placement)
    heads = {
        str(index): tuple(exit_.head_latency_ms)
        for index, exit_ in enumerate(placement.exits, start=1)
    }
    return _with_exits(run.recipe, tuple(e.layer for e in placement.exits), heads)


def _file_of(run: str) -> Path:
    return Run.open(run).checkpoints / FILE


def _with_exits(
    recipe: Recipe, layers: tuple[str, ...], early: Mapping[str, tuple[str, ...]]
) -> Recipe:
    network = dataclasses.replace(
        recipe.network, exit_placement="macs", exit_layers=layers
    )
    heads = dataclasses.replace(recipe.heads, early=early)
    return dataclasses.replace(recipe, network=network, heads=heads)


def _measure(run: Run) -> Placement:
    with progress("Laying exits out") as step:
        from mess_tf.training.train import candidate_exit_layers, design_from_recipe

        recipe = run.recipe
        classes = open_dataset(recipe.data).train.classes
        layers = candidate_exit_layers(recipe)
        asked = _early_heads(recipe)
        # Exits of skips are not known yet, and one plain head tells what leaving takes.
        plain = [head for head in asked if "_s" not in head] or ["fcn_r1_b0"]
        everywhere = {str(i): (plain[0],) for i in range(1, len(layers) + 1)}
        spec = design_from_recipe(_with_exits(recipe, layers, everywhere), classes)
        step()
    wanted = recipe.network.exits - 1
    timed = _timed(run, spec)
    network_ms = timed.network_ms
    chosen = place_exits_by_latency(timed.candidates, network_ms, wanted)
    if not chosen and wanted:
        raise MessError(
            "No early exit could save anything: at every place where the network can be"
            f" cut, leaving takes nearly the {network_ms:.2f} ms of the whole network."
            " Set network.exits to 1, or take another network or device."
        )
    spec = design_from_recipe(
        _with_exits(
            recipe,
            tuple(c.layer for c in chosen),
            {
                str(i): tuple(h for h in asked if _skips_before(h, i))
                for i in range(1, len(chosen) + 1)
            },
        ),
        classes,
    )
    again = _timed(run, spec)
    return Placement(
        schema=PLACEMENT_SCHEMA,
        device=recipe.profile.device,
        precision=_precision(recipe),
        threads=recipe.profile.threads,
        network_ms=again.network_ms,
        candidates={c.layer: c.latency_ms for c in timed.candidates},
        exits=tuple(_placed(c, again.network_ms) for c in again.candidates),
    )


def _placed(candidate: TimedCandidate, network_ms: float) -> PlacedExit:
    saving = candidate.heads_that_save(network_ms)
    if not saving:  # measured twice: then the cheapest is as good as it gets
        saving = (min(candidate.head_latency_ms, key=candidate.head_latency_ms.get),)  # type: ignore[arg-type]
    times = candidate.head_latency_ms
    return PlacedExit(
        layer=candidate.layer,
        latency_ms=candidate.latency_ms,
        head_latency_ms={head: times[head] for head in saving},
        left_out_ms={h: ms for h, ms in times.items() if h not in saving},
    )


@dataclass(frozen=True)
class _Timed:
    candidates: list[TimedCandidate]
    network_ms: float


def _timed(run: Run, spec: SupernetSpec) -> _Timed:
    """Latencies of a supernet with random weights, cut at its exit points."""
    from mess_tf.compiling.pieces import compile_supernet
    from mess_tf.models.supernet import build_supernet

    recipe = run.recipe
    precision = _precision(recipe)
    folder = run.checkpoints / "exit_candidates"
    with progress(f"Compiling {len(spec.exit_points)} exit candidates") as step:
        supernet: Supernet = build_supernet(spec).at_size()
        images = calibration_images(run, spec, _RANGE_IMAGES)
        pieces = compile_supernet(
            supernet,
            folder,
            precision,
            images if precision == "int8" else None,
            recipe.statistics.policies,
            step.share,
        )
    by_piece = _measured(run, pieces)
    shutil.rmtree(folder)
    candidates, up_to_ms = [], 0.0
    for point, heads in zip(spec.exit_points, spec.heads, strict=True):
        up_to_ms += by_piece[segment_name(point.index)]
        head_ms = {h.id: by_piece[head_name(point.index, h.id)] for h in heads}
        candidates.append(TimedCandidate(point.layer, up_to_ms, head_ms))
    final = candidates.pop()
    return _Timed(candidates, up_to_ms + final.head_latency_ms[spec.final_head.id])


def _measured(run: Run, pieces: Pieces) -> dict[str, float]:
    """Milliseconds by name of segments and heads, on the recipe's device."""
    recipe = run.recipe
    kinds: tuple[PieceKind, ...] = ("segment", "head")
    files = {p.name: pieces.folder / p.file for p in pieces.pieces if p.kind in kinds}
    with parallel_progress() as step_of:
        (measured,) = profile(
            files,
            (recipe.profile.device,),
            store=run.checkpoints / "exit_candidates.sqlite",
            settings=MeasureSettings.preset(
                recipe.profile.preset, recipe.profile.threads
            ),
            progress=lambda name, done, planned, text: step_of(
                f"Timing exit candidates on {name}"
            ).at(done, planned, text),
        )
    failed = [row.failure for row in measured.measurements if row.failure]
    if failed or len(measured.measurements) < len(files):
        reason = failed[0].message if failed else measured.lost
        raise MessError(
            f"Exits cannot be placed by latency on {measured.name}: {reason}. Set"
            " network.exit_placement to 'macs', or repair the device."
        )
    return {row.name: row.p50_ms for row in measured.measurements}


def _precision(recipe: Recipe) -> Precision:
    precisions = recipe.compile.precisions
    return "int8" if "int8" in precisions else precisions[0]


def _early_heads(recipe: Recipe) -> list[str]:
    early = recipe.heads.early_heads()
    if isinstance(early, Mapping):
        raise MessError(
            "heads.early is a table per exit point, and network.exit_placement ="
            " 'latency' chooses the exit points; give one list for all."
        )
    return [head.id for head in early]


def _skips_before(head: str, index: int) -> bool:
    from mess_tf.core.supernet_spec import HeadSpec

    return all(skip < index for skip in HeadSpec.parse(head).skips)

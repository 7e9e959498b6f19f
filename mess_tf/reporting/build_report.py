"""Reads a run folder and computes every figure of its report; draws nothing.

Any part may be missing: it is listed with the command that makes it.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import shlex
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from mess_tf.core.json_files import read_json
from mess_tf.core.pieces import Pieces
from mess_tf.core.precisions import PRECISIONS
from mess_tf.core.segmentation_metrics import background_class
from mess_tf.core.statistics import Statistics, part_images
from mess_tf.core.supernet_spec import SupernetSpec
from mess_tf.recipe.sections import Training
from mess_tf.reporting.anytime import deadline_answers
from mess_tf.reporting.deployments import (
    LoadedInputs,
    PrecisionFiles,
    best_head,
    make_deployment,
)
from mess_tf.reporting.exports import export_rows
from mess_tf.reporting.inputs import load_latencies, load_searches
from mess_tf.reporting.operators import stored_operator_costs
from mess_tf.reporting.records import (
    Deployment,
    ExitRow,
    MissingPart,
    PartSize,
    RunReport,
)
from mess_tf.reporting.search_results import Setup
from mess_tf.reporting.speedups import TIME_LIMIT_S
from mess_tf.runs import Run, file_name

VERSIONS = ("mess-tf", "tensorflow", "keras", "ai-edge-litert", "numpy")


def build_report(
    run: Run,
    now: datetime.datetime,
    speedup_time_limit_s: float = TIME_LIMIT_S,
) -> RunReport:
    """Reads a run and computes every figure of its report.

    Args:
        run: the opened run folder.
        now: date of the report, UTC.
        speedup_time_limit_s: for each search of Fig. 7.

    Raises:
        MessError: the run is not trained yet, or a file in it is broken.
    """
    read_json(run.supernet_structure, "trained network", f"mess train {run.folder}")
    spec = SupernetSpec.load(run.supernet_structure)
    inputs = LoadedInputs(load_latencies(run), load_searches(run))
    files = [load_precision(run, spec, name) for name in _precisions(run, inputs)]
    deployments: list[Deployment] = []
    exits = {}
    for device in _devices(run, inputs):
        here: list[Deployment] = []
        for one in files:
            final = here[0].final if here and here[0].precision == "float32" else None
            setup = Setup(run, device, one.precision)
            here.append(
                make_deployment(setup, one, inputs, final, speedup_time_limit_s)
            )
        exits[device] = exit_rows(spec, here)
        deployments += here
    statistics = [one.statistics for one in files if one.statistics is not None]
    background = background_class(spec.classes)
    return RunReport(
        run=str(run.folder),
        created=now.strftime("%Y-%m-%d %H:%M UTC"),
        drawn=run.recipe.data.kind == "drawn",
        data=_data(run),
        classes=spec.classes,
        parts=_parts(statistics[0]) if statistics else (),
        network=_network(run, spec),
        versions={name: _version(name) for name in VERSIONS},
        deployments=tuple(deployments),
        exits={device: table for device, table in exits.items() if table},
        missing=tuple(_missing(run, files, deployments)),
        background=None if background is None else spec.classes[background],
        exports=export_rows(run),
        operators=stored_operator_costs(run),
        deadlines=deadline_answers(run),
    )


def load_precision(run: Run, spec: SupernetSpec, precision: str) -> PrecisionFiles:
    """Pieces and statistics of one precision, as far as they are there.

    Args:
        run: the opened run folder.
        spec: structure of the whole supernet.
        precision: of the pieces.

    Raises:
        MessError: a file is broken.
    """
    folder, statistics = run.pieces(precision), run.statistics(precision)
    pieces = Pieces.load(folder) if (folder / "pieces.json").is_file() else None
    return PrecisionFiles(
        precision,
        # A fine-tuned precision has the chosen heads only.
        spec if pieces is None else pieces.part_of(spec),
        pieces,
        Statistics.load(statistics) if statistics.is_file() else None,
    )


def exit_rows(
    spec: SupernetSpec, deployments: Sequence[Deployment]
) -> tuple[ExitRow, ...]:
    """A row per exit point, precisions side by side; the final head has one anyway."""
    known = [deployment for deployment in deployments if deployment.heads]
    if not known:
        return ()
    table = []
    for point in spec.exit_points:
        best = {t.precision: best_head(t.heads, point.index) for t in known}
        figures = {name: head for name, head in best.items() if head is not None}
        table.append(ExitRow(point.index, point.layer, point.stride, figures))
    if not all(head.final for head in table[-1].best.values()):
        last = spec.exit_points[-1]
        finals = {t.precision: t.final for t in known}
        figures = {name: head for name, head in finals.items() if head is not None}
        table.append(ExitRow(last.index, last.layer, last.stride, figures, True))
    return tuple(table)


def _precisions(run: Run, inputs: LoadedInputs) -> list[str]:
    """Those that the run has anything of, else those that the recipe asks for."""
    there: set[str] = {
        precision
        for precision in PRECISIONS
        if (run.pieces(precision) / "pieces.json").is_file()
        or run.statistics(precision).is_file()
    }
    there |= {stored.precision for stored in inputs.searches}
    wanted = there or set(run.recipe.compile.precisions)
    return [precision for precision in PRECISIONS if precision in wanted]


def _devices(run: Run, inputs: LoadedInputs) -> list[str]:
    """Names of the devices; of a search alone only the folder's name is known."""
    names = dict.fromkeys(one.device.name for one in inputs.latencies)
    known = {file_name(name) for name in names}
    names |= dict.fromkeys(s.device for s in inputs.searches if s.device not in known)
    return list(names) or [run.recipe.profile.device]


def _parts(statistics: Statistics) -> tuple[PartSize, ...]:
    groups = np.array(statistics.groups)
    parts = []
    for name in ("calibration", "report"):
        chosen = part_images(statistics, name)
        parts.append(PartSize(name, len(chosen), len(set(groups[chosen].tolist()))))
    return tuple(parts)


def _data(run: Run) -> str:
    data = run.recipe.data
    if data.kind == "drawn":
        return f"drawn by the program, {data.size}x{data.size} pixels, seed {data.seed}"
    return f"{data.kind} {data.path}"


def _network(run: Run, spec: SupernetSpec) -> Mapping[str, str]:
    options = "".join(f", {k} {v}" for k, v in spec.backbone_options.items())
    if run.recipe.network.is_imported:
        options = f": {spec.backbone_options['name']}"
    early = [len(heads) for heads in spec.heads[:-1]]
    training = run.recipe.training
    return {
        "backbone": f"{spec.backbone}{options}, output stride {spec.output_stride}",
        "input": f"{spec.image_height}x{spec.image_width} pixels",
        "exit points": f"{len(early)} early ones with {sum(early)} candidate heads,"
        f" the last with {len(spec.heads[-1])}",
        "final head": spec.final_head.id,
        "training": f"{_epochs(training)} epochs of batches of {training.batch}, seed"
        f" {training.seed}",
        "loss": f"{training.loss} ({training.scheme})" + _teacher(training),
    }


def _epochs(training: Training) -> str:
    if training.scheme == "e2e":
        return str(training.stage1_epochs)
    most = "up to " if training.stage2_min_gain_pp else ""
    first = "" if training.scheme == "heads-only" else f"{training.stage1_epochs} + "
    return f"{first}{most}{training.stage2_epochs}"


def _teacher(training: Training) -> str:
    if not training.teacher:
        return ""
    taught = " and ".join(training.taught)
    return f", {taught} exits taught by {training.teacher}"


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _missing(
    run: Run, files: Sequence[PrecisionFiles], deployments: Sequence[Deployment]
) -> Iterator[MissingPart]:
    """The first gap of each kind; later steps need the earlier ones."""

    def command(*words: str) -> str:
        return shlex.join(["mess", words[0], str(run.folder), *words[1:]])

    for one in files:
        precision = ("--precision", one.precision)
        if one.pieces is None:
            yield MissingPart(
                f"{one.precision}: no compiled pieces",
                command("compile", *precision),
            )
        if one.statistics is None:
            yield MissingPart(
                f"{one.precision}: not evaluated", command("evaluate", *precision)
            )
    for deployment in deployments:
        what = f"{deployment.precision} on {deployment.device}"
        where = ("--device", deployment.device, "--precision", deployment.precision)
        timed = bool(deployment.heads) and all(
            h.latency_ms is not None for h in deployment.heads
        )
        if not timed:
            yield MissingPart(
                f"{what}: not all pieces are measured", command("profile", *where)
            )
        if deployment.speedups_error:
            yield MissingPart(
                f"{what}: Fig. 7: {deployment.speedups_error}", command("report")
            )
        if not deployment.results:
            yield MissingPart(f"{what}: no search", command("search", *where))
        elif not deployment.front:
            yield MissingPart(f"{what}: no Pareto front", command("search", *where))
        for result in deployment.results:
            if timed and not result.breakdowns:
                yield MissingPart(
                    f"{result.name} ({what}): the pieces were measured again since this"
                    " search; its latencies are the earlier ones",
                    command("search", *where),
                )
            if result.predicted:
                yield MissingPart(
                    f"{result.name} ({what}): rests on predicted latencies",
                    result.command,
                )
            elif result.export is None:
                yield MissingPart(
                    f"{result.name} ({what}): not exported", result.command
                )
            elif not result.export.checked:
                yield MissingPart(
                    f"{result.export.name}: not checked on the device",
                    result.export.check_command,
                )

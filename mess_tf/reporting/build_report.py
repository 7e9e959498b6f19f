"""Reads a run folder and works out what the report says; draws nothing.

What a search or a measuring run left is handed in, because their packages read it. Any
part may be missing: it is listed with the command that makes it.
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
from mess_tf.reporting.exports import export_rows
from mess_tf.reporting.inputs import Measured, Searched
from mess_tf.reporting.records import ExitRow, Info, Missing, PartInfo, Target
from mess_tf.reporting.targets import Sources, Tools, best_of, make_target
from mess_tf.runs import Run, file_name

VERSIONS = ("mess-tf", "tensorflow", "keras", "ai-edge-litert", "numpy")


def gather(
    run: Run,
    measured: Sequence[Measured],
    searched: Sequence[Searched],
    tools: Tools,
    now: datetime.datetime,
) -> Info:
    """Works the report out.

    Args:
        run: the opened run folder.
        measured: per device and way of measuring, its pieces.
        searched: per device and precision, what was found.
        tools: of the search.
        now: date of the report, UTC.

    Raises:
        MessError: the run is not trained yet, or a file in it is broken.
    """
    read_json(run.supernet_structure, "trained network", f"mess train {run.folder}")
    spec = SupernetSpec.load(run.supernet_structure)
    sources = [_sources(run, precision) for precision in _precisions(run, searched)]
    targets: list[Target] = []
    exits = {}
    for device in _devices(run, measured, searched):
        here: list[Target] = []
        for source in sources:
            final = here[0].final if here and here[0].precision == "float32" else None
            here.append(
                make_target(run, spec, device, source, measured, searched, tools, final)
            )
        exits[device] = exit_rows(spec, here)
        targets += here
    statistics = [s.statistics for s in sources if s.statistics is not None]
    background = background_class(spec.classes)
    return Info(
        run=str(run.folder),
        created=now.strftime("%Y-%m-%d %H:%M UTC"),
        drawn=run.recipe.data.kind == "drawn",
        data=_data(run),
        classes=spec.classes,
        parts=_parts(statistics[0]) if statistics else (),
        network=_network(run, spec),
        versions={name: _version(name) for name in VERSIONS},
        targets=tuple(targets),
        exits={device: table for device, table in exits.items() if table},
        missing=tuple(_missing(run, sources, targets)),
        background=None if background is None else spec.classes[background],
        exports=export_rows(run),
    )


def exit_rows(spec: SupernetSpec, targets: Sequence[Target]) -> tuple[ExitRow, ...]:
    """A row per exit point, precisions side by side; the final head has one anyway."""
    known = [target for target in targets if target.heads]
    if not known:
        return ()
    table = []
    for point in spec.exit_points:
        best = {t.precision: best_of(t.heads, point.index) for t in known}
        figures = {name: head for name, head in best.items() if head is not None}
        table.append(ExitRow(point.index, point.layer, point.stride, figures))
    if not all(head.final for head in table[-1].best.values()):
        last = spec.exit_points[-1]
        finals = {t.precision: t.final for t in known}
        figures = {name: head for name, head in finals.items() if head is not None}
        table.append(ExitRow(last.index, last.layer, last.stride, figures, True))
    return tuple(table)


def _precisions(run: Run, searched: Sequence[Searched]) -> list[str]:
    """Those that the run has anything of, else those that the recipe asks for."""
    there: set[str] = {
        precision
        for precision in PRECISIONS
        if (run.pieces(precision) / "pieces.json").is_file()
        or run.statistics(precision).is_file()
    }
    there |= {found.precision for found in searched}
    wanted = there or set(run.recipe.compile.precisions)
    return [precision for precision in PRECISIONS if precision in wanted]


def _sources(run: Run, precision: str) -> Sources:
    folder, statistics = run.pieces(precision), run.statistics(precision)
    return Sources(
        precision,
        Pieces.load(folder) if (folder / "pieces.json").is_file() else None,
        Statistics.load(statistics) if statistics.is_file() else None,
    )


def _devices(
    run: Run, measured: Sequence[Measured], searched: Sequence[Searched]
) -> list[str]:
    """Names of the devices; of a search alone only the folder's name is known."""
    names = dict.fromkeys(str(m.device["name"]) for m in measured)
    known = {file_name(name) for name in names}
    names |= dict.fromkeys(s.device for s in searched if s.device not in known)
    return list(names) or [run.recipe.profile.device]


def _parts(statistics: Statistics) -> tuple[PartInfo, ...]:
    groups = np.array(statistics.groups)
    parts = []
    for name in ("calibration", "report"):
        chosen = part_images(statistics, name)
        parts.append(PartInfo(name, len(chosen), len(set(groups[chosen].tolist()))))
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
        "training": f"{training.stage1_epochs} + {training.stage2_epochs} epochs of"
        f" batches of {training.batch}, seed {training.seed}",
        "loss": f"{training.loss} ({training.scheme})" + _teacher(training),
    }


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
    run: Run, sources: Sequence[Sources], targets: Sequence[Target]
) -> Iterator[Missing]:
    """The first gap of each kind; later steps need the earlier ones."""

    def command(*words: str) -> str:
        return shlex.join(["mess", words[0], str(run.folder), *words[1:]])

    for source in sources:
        precision = ("--precision", source.precision)
        if source.pieces is None:
            yield Missing(
                f"{source.precision}: no compiled pieces",
                command("compile", *precision),
            )
        if source.statistics is None:
            yield Missing(
                f"{source.precision}: not evaluated", command("evaluate", *precision)
            )
    for target in targets:
        what = f"{target.precision} on {target.device}"
        where = ("--device", target.device, "--precision", target.precision)
        timed = bool(target.heads) and all(
            h.latency_ms is not None for h in target.heads
        )
        if not timed:
            yield Missing(
                f"{what}: not all pieces are measured", command("profile", *where)
            )
        if target.no_rings:
            yield Missing(f"{what}: Fig. 7: {target.no_rings}", command("report"))
        if not target.answers:
            yield Missing(f"{what}: no search", command("search", *where))
        elif not target.front:
            yield Missing(f"{what}: no Pareto front", command("search", *where))
        for answer in target.answers:
            if timed and not answer.bars:
                yield Missing(
                    f"{answer.name} ({what}): the pieces were measured again since this"
                    " search; its latencies are the earlier ones",
                    command("search", *where),
                )
            if answer.predicted:
                yield Missing(
                    f"{answer.name} ({what}): rests on predicted latencies",
                    answer.command,
                )
            elif answer.export is None:
                yield Missing(f"{answer.name} ({what}): not exported", answer.command)
            elif not answer.export.checked:
                yield Missing(
                    f"{answer.export.name}: not checked on the device",
                    answer.export.check_command,
                )

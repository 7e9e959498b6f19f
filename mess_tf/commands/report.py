"""``mess report``."""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from android_bench.records import MeasureSettings
from android_bench.store import Store
from mess_tf.commands.arguments import as_tuple
from mess_tf.core.configuration import Configuration
from mess_tf.core.errors import MessError, UsageError
from mess_tf.core.files import write_atomically
from mess_tf.core.json_files import to_json
from mess_tf.core.pieces import Pieces
from mess_tf.core.routing import exit_position_per_image
from mess_tf.core.statistics import Statistics
from mess_tf.core.supernet_spec import SupernetSpec
from mess_tf.data.open import open_data
from mess_tf.reporting.conditions import summary
from mess_tf.reporting.gallery import Gallery
from mess_tf.reporting.inputs import (
    FrontFigures,
    FrontRow,
    Measured,
    PieceFigure,
    Searched,
)
from mess_tf.reporting.operators import stored_operator_costs, write_operators
from mess_tf.reporting.records import Info, Missing
from mess_tf.reporting.side_by_side import early_head, side_by_side
from mess_tf.runs import Run
from mess_tf.terminal.progress import progress
from search.infeasible import InfeasibleError
from search.parameters import SearchParameters
from search.pareto import load_pareto
from search.requirement import Requirement
from search.result import load_results
from search.run import search as solve

PRESETS = ("quick", "report", "compare")
FIG_7_LIMIT_S = 3.0
"""For each point of Fig. 7; on CamVid each takes a fraction of a second."""

Galleries = dict[str, Gallery]
"""Sample images by precision."""

Told = tuple[Info, Galleries]
"""A run: what to say of it, and its pictures."""


def report(
    run: str | Path,
    others: str | Path | Sequence[str | Path] = (),
    *,
    output: str | Path | None = None,
) -> dict[str, Any]:
    """Writes report.html: one page with everything that a run, or several, have found.

    The Pareto front, where the time goes, IoU per class and sample images. Parts that
    are missing are named on the page with the command that makes them. Every figure is
    also written as CSV, and as PNG and SVG where it is a picture, into
    ``<run>/report``.

    Args:
        run: the run folder.
        others: further runs, to compare on the same page.
        output: file to write (default: report.html in the run).

    Returns:
        ``report`` (the page's path), ``figures`` (paths) and ``missing`` (what is not
        there yet, with its command).

    Raises:
        MessError: a run is not trained yet, or a file in it is broken.
        UsageError: the same run twice.
    """
    from mess_tf.reporting.figures.write import write_figures, write_side_by_side
    from mess_tf.reporting.page.render import render_page

    folders = [Path(folder) for folder in (run, *as_tuple(others))]
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise UsageError("A run is given twice; give each run once.")
    opened = [Run.open(folder) for folder in folders]
    figures: list[Path] = []
    told: list[Told] = []
    with progress("Report", 2 * len(opened) + 1) as step:
        for one in opened:
            found = _told(one, told[0] if told else None)
            step(1)
            figures += write_figures(*found, one.folder / "report")
            figures += write_operators(found[0].operators, one.folder / "report")
            told.append(found)
            step(1)
        rows = side_by_side(told)
        figures += write_side_by_side(rows, opened[0].folder / "report")
        page = Path(output) if output else opened[0].report
        with write_atomically(page) as temporary:
            temporary.write_text(render_page(told, rows), encoding="utf-8")
        step(1)
    missing = [item for info, _ in told for item in info.missing]
    return {
        "report": str(page),
        "figures": [str(path) for path in figures],
        "missing": [dataclasses.asdict(item) for item in missing],
    }


def _told(run: Run, first: Told | None) -> Told:
    """Gathers a run; with the images of the first run, where it has them."""
    from mess_tf.reporting.build_report import gather
    from mess_tf.reporting.targets import Tools

    info = gather(
        run,
        _measured(run),
        _searched(run),
        Tools(exit_position_per_image, _best_within),
        datetime.datetime.now(datetime.UTC),
    )
    info = dataclasses.replace(info, operators=stored_operator_costs(run))
    return _with_pictures(run, info, first)


def _best_within(
    statistics: Statistics,
    spec: SupernetSpec,
    latency_ms: Mapping[str, float],
    budget_ms: float,
) -> tuple[Configuration, bool] | None:
    """The most accurate configuration of one early exit at most; see ``BestWithin``."""
    wish = Requirement(max_latency_ms=budget_ms)
    try:
        result = solve(
            statistics,
            spec,
            latency_ms,
            wish,
            SearchParameters(max_early_exits=1, time_limit_s=FIG_7_LIMIT_S),
        )
    except InfeasibleError:
        return None
    return result.configuration, result.proven


def _measured(run: Run) -> list[Measured]:
    """Pieces of the run's store by device and way of measuring; newest figures win."""
    if not run.profiles.is_file():
        return []
    settings_of = MeasureSettings
    with Store(run.profiles, must_exist=True) as store:
        devices = {d.fingerprint: dataclasses.asdict(d) for d in store.devices()}
        rows = [row for row in store.measurements() if not row.failed]
    pieces: dict[tuple[str, str], dict[str, PieceFigure]] = {}
    conditions: dict[tuple[str, str], list[Any]] = {}
    for row in rows:  # oldest first
        figure = PieceFigure(
            row.p50_ms,
            row.time,
            tuple(row.flags),
            tuple(taken.median_us / 1000 for taken in row.rounds),
        )
        way = (row.fingerprint, row.settings_key)
        pieces.setdefault(way, {})[row.sha256] = figure
        conditions.setdefault(way, []).extend(taken.conditions for taken in row.rounds)
    measured = []
    for (fingerprint, key), figures in pieces.items():
        threads = json.loads(key)["threads"]
        named = (n for n in PRESETS if settings_of.preset(n, threads).key == key)
        measured.append(
            Measured(
                devices[fingerprint],
                threads,
                next(named, "own"),
                figures,
                summary(conditions[fingerprint, key]),
            )
        )
    return measured


def _searched(run: Run) -> list[Searched]:
    """What the searches left, by device and precision."""
    searched = []
    for path in sorted(run.folder.glob("search/*/*/chosen.json")):
        results = tuple(
            {**to_json(result), "wish": str(result.requirement)}
            for result in load_results(path)
        )
        front = None
        if (path.parent / "pareto.csv").is_file():
            rows = load_pareto(path.parent / "pareto.csv")
            front = tuple(_front_row(row) for row in rows)
        searched.append(
            Searched(path.parent.parent.name, path.parent.name, results, front)
        )
    return searched


def _front_row(row: dict[str, Any]) -> FrontRow:
    names = ("mean_ms", "p90_ms", "miou", "drop_pp")
    told = [row[f"report_{name}"] for name in names]
    return FrontRow(
        configuration=row["exits"],
        calibration=FrontFigures(*(row[name] for name in names)),
        report=None if None in told else FrontFigures(*told),
        proven=row["proven"],
    )


def _with_pictures(run: Run, info: Info, first: Told | None) -> Told:
    """Sample images with what every head that is looked at makes of them.

    A data set or pieces that are gone cost the pictures, not the report: the reason
    goes onto the page.
    """
    galleries: Galleries = {}
    try:
        data = None
        for precision in dict.fromkeys(t.precision for t in info.targets if t.views):
            data = data or open_data(run.recipe.data)
            galleries[precision] = _gallery(run, info, data, precision, first)
    except MessError as error:
        lost = Missing(f"Sample images: {error}", f"mess report {run.folder}")
        info = dataclasses.replace(info, missing=(*info.missing, lost))
    return info, galleries


def _gallery(
    run: Run, info: Info, data: Any, precision: str, first: Told | None
) -> Gallery:
    from mess_tf.reporting.gallery import (
        choose_images,
        make_gallery,
        pixel_threshold,
        same_images,
    )

    spec = SupernetSpec.load(run.supernet_structure)
    statistics = Statistics.load(run.statistics(precision))
    targets = [t for t in info.targets if t.precision == precision and t.views]
    configuration = Configuration(
        (targets[0].featured_view or targets[0].views[0]).exits
    )
    views = [view for target in targets for view in target.views]
    heads = {(c.exit, c.head) for view in views for c in view.exits}
    heads.add((spec.exit_points[-1].index, spec.final_head.id))
    choices = []
    if first is not None and precision in first[1]:
        names = [shot.name for shot in first[1][precision].shots]
        choices = same_images(statistics, configuration, exit_position_per_image, names)
        same = [t for t in first[0].targets if t.precision == precision]
        leading = [early_head(target.featured_view) for target in same]
        heads.update(head for head in leading if head in statistics.heads)
    return make_gallery(
        data,
        spec,
        Pieces.load(run.pieces(precision)),
        statistics,
        choices or choose_images(statistics, configuration, exit_position_per_image),
        heads,
        pixel_threshold(configuration),
    )


def render(result: dict[str, Any]) -> str:
    """Where the page is, and what is still missing on it."""
    lines = [f"Report: {result['report']} ({len(result['figures'])} figures beside it)"]
    lines += [f"  {item['what']}: {item['command']}" for item in result["missing"]]
    return "\n".join(lines)

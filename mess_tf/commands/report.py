"""``mess report``."""

from __future__ import annotations

import dataclasses
import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np

from mess_tf.data.open import open_data
from mess_tf.doors import open_door
from mess_tf.errors import MessError
from mess_tf.files import write_atomically
from mess_tf.progress import progress
from mess_tf.records import Pieces, Statistics, SupernetSpec
from mess_tf.report.records import (
    FrontRow,
    Info,
    Measured,
    Missing,
    PieceFigure,
    Searched,
)
from mess_tf.runs import Run

PRESETS = ("quick", "report", "compare")


def report(run: Path, output: Path | None = None) -> dict[str, Any]:
    """Writes one page with everything that the run has found so far.

    Parts that are missing are named on the page with the command that makes them. Every
    figure is also written as CSV, and PNG where it is a picture, into ``<run>/report``.

    Args:
        run: folder of the run.
        output: file to write; None takes ``report.html`` in the run.

    Returns:
        ``report`` (the page's path), ``figures`` (paths) and ``missing`` (what is not
        there yet, with its command).

    Raises:
        MessError: the run is not trained yet, or a file in it is broken.
    """
    from mess_tf.report.figures import write_figures
    from mess_tf.report.gather import gather
    from mess_tf.report.page import render_page

    opened = Run.open(run)
    with progress("Report", 4) as step:
        info = gather(
            opened,
            _measured(opened),
            _searched(opened),
            open_door("leave_at"),
            datetime.datetime.now(datetime.UTC),
        )
        step(1)
        info, strips, palette = _pictures(opened, info)
        step(1)
        figures = write_figures(info, strips, opened.folder / "report")
        step(1)
        page = Path(output) if output else opened.report
        with write_atomically(page) as temporary:
            temporary.write_text(render_page(info, strips, palette), encoding="utf-8")
        step(1)
    return {
        "report": str(page),
        "figures": [str(path) for path in figures],
        "missing": [dataclasses.asdict(item) for item in info.missing],
    }


def _measured(run: Run) -> list[Measured]:
    """Pieces of the run's store by device and way of measuring; newest figures win."""
    if not run.profiles.is_file():
        return []
    settings_of = open_door("measure_settings")
    with open_door("store")(run.profiles, must_exist=True) as store:
        devices = {d.fingerprint: dataclasses.asdict(d) for d in store.devices()}
        rows = [row for row in store.measurements() if not row.failed]
    pieces: dict[tuple[str, str], dict[str, PieceFigure]] = {}
    for row in rows:  # oldest first
        figure = PieceFigure(
            row.p50_ms,
            row.time,
            tuple(row.flags),
            tuple(taken.median_us / 1000 for taken in row.rounds),
        )
        pieces.setdefault((row.fingerprint, row.settings_key), {})[row.sha256] = figure
    measured = []
    for (fingerprint, key), figures in pieces.items():
        threads = json.loads(key)["threads"]
        named = (n for n in PRESETS if settings_of.preset(n, threads).key == key)
        measured.append(
            Measured(devices[fingerprint], threads, next(named, "own"), figures)
        )
    return measured


def _searched(run: Run) -> list[Searched]:
    """What the searches left, by device and precision."""
    searched = []
    for path in sorted(run.folder.glob("search/*/*/chosen.json")):
        results = tuple(
            {**result.as_json(), "wish": str(result.requirement)}
            for result in open_door("load_results")(path)
        )
        front = None
        if (path.parent / "pareto.csv").is_file():
            rows = open_door("load_pareto")(path.parent / "pareto.csv")
            front = tuple(_front_row(row) for row in rows)
        searched.append(
            Searched(path.parent.parent.name, path.parent.name, results, front)
        )
    return searched


def _front_row(row: dict[str, Any]) -> FrontRow:
    return FrontRow(
        configuration=row["exits"],
        calibration_ms=row["mean_ms"],
        calibration_miou=row["miou"],
        report_ms=row["report_mean_ms"],
        report_miou=row["report_miou"],
        proven=row["proven"],
    )


def _pictures(run: Run, info: Info) -> tuple[Info, dict[Any, Any], np.ndarray | None]:
    """Progressive outputs of each target's featured answer, by (device, precision).

    A data set or pieces that are gone cost the pictures, not the report: the reason
    goes onto the page.
    """
    from mess_tf.records import Configuration
    from mess_tf.report.pictures import choose_images, make_strips

    strips: dict[Any, Any] = {}
    wanted = [target for target in info.targets if target.featured is not None]
    if not wanted:
        return info, strips, None
    spec = SupernetSpec.load(run.supernet_structure)
    try:
        data = open_data(run.recipe.data)
        for target in wanted:
            if target.featured is None:
                continue
            configuration = Configuration(target.featured.chosen.exits)
            statistics = Statistics.load(run.statistics(target.precision))
            leave_at = open_door("leave_at")
            strips[target.device, target.precision] = make_strips(
                data,
                spec,
                Pieces.load(run.pieces(target.precision)),
                statistics,
                configuration,
                choose_images(statistics, configuration, leave_at),
            )
    except MessError as error:
        lost = Missing(f"Progressive outputs: {error}", f"mess report {run.folder}")
        return dataclasses.replace(info, missing=(*info.missing, lost)), strips, None
    return info, strips, data.evaluation.palette


def render(result: dict[str, Any]) -> str:
    """Where the page is, and what is still missing on it."""
    lines = [f"Report: {result['report']} ({len(result['figures'])} figures beside it)"]
    lines += [f"  {item['what']}: {item['command']}" for item in result["missing"]]
    return "\n".join(lines)

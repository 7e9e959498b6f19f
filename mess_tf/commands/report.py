"""``mess report``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mess_tf.commands.arguments import as_tuple
from mess_tf.core.errors import UsageError
from mess_tf.runs import Run


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
    from mess_tf.reporting.write_report import write_report

    folders = [Path(folder) for folder in (run, *as_tuple(others))]
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise UsageError("A run is given twice; give each run once.")
    runs = [Run.open(folder) for folder in folders]
    written = write_report(runs, Path(output) if output else runs[0].report)
    return {
        "report": str(written.page),
        "figures": [str(path) for path in written.figures],
        "missing": [dataclasses.asdict(part) for part in written.missing],
    }


def render(result: dict[str, Any]) -> str:
    """Where the page is, and what is still missing on it."""
    lines = [f"Report: {result['report']} ({len(result['figures'])} figures beside it)"]
    lines += [f"  {item['what']}: {item['command']}" for item in result["missing"]]
    return "\n".join(lines)

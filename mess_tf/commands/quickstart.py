"""``mess quickstart``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mess_tf.commands.arguments import next_command
from mess_tf.commands.check import check
from mess_tf.commands.check import render as render_check
from mess_tf.commands.compile import compile as compile_run
from mess_tf.commands.evaluate import evaluate
from mess_tf.commands.export import export
from mess_tf.commands.profile import profile
from mess_tf.commands.report import report
from mess_tf.commands.search import render as render_search
from mess_tf.commands.search import search
from mess_tf.commands.train import train


def quickstart(
    run: str | Path = Path("runs/quickstart"), *, recipe: str | Path = "quickstart"
) -> dict[str, Any]:
    """Runs every step on drawn images, from training to a report, in a few minutes.

    Draws a data set, trains a small multi-exit network on it, measures it on this
    computer, searches, exports an int8 file that stops early, checks it and writes
    report.html.

    Args:
        run: the run folder; a finished part of it is not done again.
        recipe: recipe to follow, by path or built-in name.

    Returns:
        ``report`` and ``models`` (paths), ``search`` and ``check`` (as text).
    """
    train(run, recipe=recipe)
    compile_run(run)
    evaluate(run)
    profile(run)
    found = search(run)
    exported = export(run)
    checked = check(run)
    page = report(Path(run))
    models = [row["model"] for row in exported["exports"]]
    return {
        "report": page["report"],
        "models": models,
        "search": render_search(found),
        "check": render_check(checked),
        "next": next_command("train", "runs/mine", recipe="own", data="FOLDER"),
    }


def render(result: dict[str, Any]) -> str:
    """The search's answer, the check, and where everything is."""
    return "\n".join(
        [
            result["search"],
            "",
            result["check"],
            "",
            *(f"Model: {model}" for model in result["models"]),
            f"Report: {result['report']}",
        ]
    )

"""``mess evaluate``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from mess_tf.commands.arguments import check_choice, next_command
from mess_tf.core.errors import UsageError
from mess_tf.core.files import sha256_of
from mess_tf.core.pieces import Pieces
from mess_tf.core.precisions import Precision
from mess_tf.core.supernet_spec import SupernetSpec
from mess_tf.data.dataset import open_dataset
from mess_tf.evaluation.accuracy import head_miou
from mess_tf.policies.comparison_exit import reference_exits
from mess_tf.policies.registry import fitted_families, keys
from mess_tf.runs import Run
from mess_tf.terminal.progress import progress

if TYPE_CHECKING:
    from mess_tf.evaluation.runners import Runner

SourceName = Literal["pieces", "keras"]


def evaluate(
    run: str | Path,
    *,
    precision: Precision | None = None,
    source: SourceName = "pieces",
) -> dict[str, Any]:
    """Runs every exit on the validation images and stores accuracy and confidence.

    Args:
        run: the run folder.
        precision: only this precision of the pieces (default: the recipe's).
        source: what runs: the compiled pieces, which is what is deployed, or the Keras
            model.

    Returns:
        ``run``, and per source the mIoU per head on the report part and on all images.

    Raises:
        MessError: not compiled yet, or the data set cannot be used.
        UsageError: a precision for Keras.
    """
    from mess_tf.evaluation.evaluate import evaluate as fill

    check_choice("source", source, get_args(SourceName))
    if source == "keras" and precision is not None:
        raise UsageError(
            f"--precision {precision} is of compiled pieces, and --from keras runs none"
            " of them; leave one of the two out."
        )
    opened = Run.open(run)
    recipe = opened.recipe
    whole = SupernetSpec.load(opened.supernet_structure)
    data = open_dataset(recipe.data)
    asked = recipe.statistics
    result: dict[str, Any] = {"run": str(run)}
    chosen = [precision] if precision else recipe.compile.precisions
    for name in chosen if source == "pieces" else ["keras"]:
        with progress(f"Loading {name}") as step:
            spec, fingerprint, make_runner = _runs(opened, name, whole)
            step()
        references = reference_exits(spec)
        policy_keys = keys(asked.policies, asked.pixel_thresholds, references)
        parameters = {}
        if families := fitted_families(policy_keys):
            from mess_tf.evaluation.fit import fit_policies

            count = min(asked.fit_images, len(data.train))
            with progress(f"Fitting {' and '.join(families)}", count) as step:
                parameters = fit_policies(
                    make_runner([], {}), spec, data.train, families, count, step
                )
        runner = make_runner(policy_keys, parameters)
        with progress(f"Evaluating {name}", len(data.evaluation)) as step:
            statistics = fill(
                runner,
                spec,
                data.evaluation,
                data.parts,
                policy_keys,
                opened.statistics(name),
                fingerprint,
                step,
            )
        result[name] = [
            {
                "exit": exit_index,
                "head": head_id,
                "miou_report": head_miou(statistics, (exit_index, head_id), "report"),
                "miou_calibration": head_miou(
                    statistics, (exit_index, head_id), "calibration"
                ),
            }
            for exit_index, head_id in statistics.heads
        ]
    return result | {"next": next_command("profile", run, precision=precision)}


def _runs(
    run: Run, name: str, whole: SupernetSpec
) -> tuple[SupernetSpec, str, Callable[[Sequence[str], Mapping[str, Any]], Runner]]:
    """Of a precision or ``keras``: its heads, its fingerprint, and what makes a runner
    of policy keys and the numbers of fitted ones."""
    from mess_tf.evaluation.runners import KerasRunner, PiecesRunner

    if name == "keras":
        from mess_tf.models.supernet import Supernet

        supernet = Supernet.load(run.folder)
        return (
            whole,
            sha256_of(run.supernet_weights),
            lambda keys, parameters: KerasRunner(supernet, keys, parameters),
        )
    pieces = Pieces.load(run.pieces(name))
    threads = run.recipe.profile.threads
    spec = pieces.part_of(whole)
    shas = "".join(piece.sha256 for piece in pieces.pieces)
    return (
        spec,
        hashlib.sha256(shas.encode()).hexdigest(),
        lambda keys, parameters: PiecesRunner(spec, pieces, keys, threads, parameters),
    )


def render(result: dict[str, Any]) -> str:
    """Per source, the best head of every exit."""
    lines = []
    for name, rows in result.items():
        if not isinstance(rows, list):
            continue
        lines.append(f"{name}: mIoU on the report part (calibration part), best heads")
        for exit_index in sorted({row["exit"] for row in rows}):
            best = max(
                (row for row in rows if row["exit"] == exit_index),
                key=lambda row: row["miou_calibration"],
            )
            lines.append(
                f"  exit {exit_index}: {best['miou_report']:.1%}"
                f" ({best['miou_calibration']:.1%}) {best['head']}"
            )
    return "\n".join(lines)

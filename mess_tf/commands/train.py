"""``mess train``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mess_tf.commands.arguments import as_tuple, next_command
from mess_tf.core.errors import MessError, UsageError
from mess_tf.data.dataset import open_split
from mess_tf.data.pairs import CheckedSource
from mess_tf.recipe.files import load_recipe
from mess_tf.recipe.settings import as_toml
from mess_tf.runs import Run
from mess_tf.terminal.output_capture import move_output_to_log
from mess_tf.terminal.progress import progress

FINE_TUNING = (
    "training.scheme=e2e",
    "training.loss=kd",
    "training.optimizer=adamw",
    "training.stage1_epochs=4",
    "training.learning_rate=1e-4",
)


def train(
    run: str | Path,
    *,
    recipe: str | Path | None = None,
    data: str | Path | None = None,
    weights: str | Path | None = None,
    fine_tune: str | Path | None = None,
    changes: str | Sequence[str] = (),
) -> dict[str, Any]:
    """Trains a network with all its candidate exits.

    Trains the supernet of a recipe in two stages. The same command goes on after an
    interruption.

    Args:
        run: the run folder; made if it does not exist.
        recipe: recipe, by path or built-in name (own: your own images); needed for a
            new run.
        data: folder of the data set, instead of the recipe's.
        weights: imagenet, random or a file, instead of the recipe's.
        fine_tune: a trained run: begin with its weights, recipe and exits, and train
            network and heads together (scheme e2e, AdamW, 4 epochs at 1e-4; change
            them by --set). The final exit changes, too; by how much is reported.
        changes: change of a setting of the recipe, e.g. training.seed=1; may be
            repeated.

    Returns:
        ``run``, ``final_miou`` and ``best_heads``: the last epoch's mIoU on the
        calibration part, on the output grid (``mess evaluate`` measures exactly), None
        where there was nothing to train; ``final_miou_before`` with ``fine_tune``;
        ``next``: the command to type next, as in every command's result.

    Raises:
        MessError: recipe, data set, weights or run folder cannot be used.
    """
    if fine_tune is not None:
        if recipe is not None or weights is not None:
            raise UsageError(
                "--fine-tune takes recipe and weights of the run it names; leave"
                " --recipe and --weights out, or give training.start in a recipe."
            )
        recipe = Run.open(fine_tune).folder / "recipe.toml"
        changes = (
            *FINE_TUNING,
            f"training.start={as_toml(str(Path(fine_tune).resolve()))}",
            *as_tuple(changes),
        )
    if recipe is None and (data or weights or changes):
        raise UsageError(
            "--data, --weights and --set change a recipe; name it by --recipe."
        )
    if recipe is None:
        opened = Run.open(run)
    else:
        asked = load_recipe(
            recipe,
            data=None if data is None else Path(data),
            weights=None if weights is None else str(weights),
            changes=as_tuple(changes),
        )
        opened = Run.create(run, asked)
        move_output_to_log(opened.log)
    _check_start(opened)
    _check_teacher(opened)
    _validate(opened)
    with progress("Loading Keras") as step:
        from mess_tf.training.train import train_supernet

        step()
    recipe_to_train = opened.recipe
    if opened.recipe.network.exit_placement == "latency":
        from mess_tf.commands.place_exits import recipe_with_placed_exits

        recipe_to_train = recipe_with_placed_exits(opened)
    train_supernet(recipe_to_train, opened.folder, opened.checkpoints, progress)
    miou = _last_miou(opened.checkpoints)
    best: dict[str, tuple[str, float]] = {}
    for name, value in miou.items():
        point, _, head = name.partition("/")
        if head and value > best.get(point, ("", -1.0))[1]:
            best[point] = (head, value)
    return {
        "run": str(run),
        "final_miou": miou.get("final"),
        "final_miou_before": None if fine_tune is None else _final_before(fine_tune),
        "best_heads": best,
        "next": next_command("compile", run),
    }


def _check_start(run: Run) -> None:
    start = run.recipe.training.start
    if start and not Run.open(start).supernet_weights.is_file():
        raise MessError(
            f"training.start = {start!r} is not accepted: there is no trained network"
            f" in it. Run `mess train {start}` to its end first."
        )


def _final_before(run: str | Path) -> float | None:
    return _last_miou(Run.open(run).checkpoints).get("final")


def _check_teacher(run: Run) -> None:
    if teacher := run.recipe.training.teacher:
        from mess_tf.training.teacher import check_teacher

        data = run.recipe.data
        check_teacher(Path(teacher), open_split(data, data.train).classes)


def _validate(run: Run) -> None:
    """Looks through all files of a data set before hours are spent on it."""
    data = run.recipe.data
    if run.supernet_weights.exists():
        return
    for split in (data.train, data.val):
        source = open_split(data, split)
        if not isinstance(source, CheckedSource):
            continue
        with progress(f"Checking {split} images", len(source)) as step:
            source.validate(step)


def render(result: dict[str, Any]) -> str:
    """The result as text."""
    if result["final_miou"] is None:
        return "Nothing was to be trained: the network stays as it is, without exits."
    lines = [f"Trained. mIoU on the calibration part: final {result['final_miou']:.1%}"]
    if result["final_miou_before"] is not None:
        lines[0] += f" (before fine-tuning {result['final_miou_before']:.1%})"
    lines += [
        f"  {point}: {value:.1%} ({head})"
        for point, (head, value) in sorted(result["best_heads"].items())
    ]
    return "\n".join(lines)


def _last_miou(folder: Path) -> dict[str, float]:
    """mIoU by exit and head after the last epoch of the last stage; empty for none."""
    for stage in ("stage2", "stage1"):
        history = folder / f"{stage}.jsonl"
        if history.is_file():
            line = history.read_text(encoding="utf-8").splitlines()[-1]
            miou: dict[str, float] = json.loads(line)["miou"]
            return miou
    return {}

"""Every system of the comparison on CamVid, one row after the other.

    python benchmarks/camvid/run.py OUT --data CAMVID --weights IMAGENET_WEIGHTS
    python benchmarks/camvid/run.py OUT --data ... --rows two-stage-pfd --seeds 0
    python benchmarks/camvid/run.py OUT --data ... --teacher runs/camvid

Rows that another run teaches are left out without `--teacher`. A row that stands in OUT
is not run again, and one that was interrupted goes on where it stood, so the same
command finishes what is left; several may work beside one another on different seeds.
`python benchmarks/camvid/tables.py OUT` makes the tables.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from mess_tf.core.tensorflow_environment import set_tensorflow_defaults

set_tensorflow_defaults()

from rows import RECIPE, ROWS, Row

from mess_tf.commands.evaluate import evaluate
from mess_tf.core.errors import MessError
from mess_tf.core.json_files import write_json
from mess_tf.core.statistics import Statistics
from mess_tf.data.dataset import open_dataset
from mess_tf.evaluation.accuracy import head_miou
from mess_tf.recipe.files import load_recipe
from mess_tf.recipe.recipe import Recipe
from mess_tf.recipe.settings import as_toml
from mess_tf.runs import Run
from mess_tf.training.loop import Progress


def main() -> None:
    args = _arguments()
    for seed in args.seeds:
        for row in ROWS:
            if args.rows and row.name not in args.rows:
                continue
            if row.has_teacher and not args.teacher:
                continue
            if result_path(args.out, row.name, seed).is_file():
                continue
            started = time.monotonic()
            run_row(args, row, seed)
            minutes = (time.monotonic() - started) / 60
            print(f"{row.name} seed {seed}: {minutes:.1f} min", flush=True)


def result_path(out: Path, row: str, seed: int) -> Path:
    return out / f"{row}-{seed}.json"


def run_folder(out: Path, row: str, seed: int) -> Path:
    return out / "runs" / f"{row}-{seed}"


def run_row(args: argparse.Namespace, row: Row, seed: int) -> None:
    """Trains, evaluates every head with Keras, and writes the row's result."""
    import keras

    from mess_tf.training.train import train_supernet

    keras.utils.clear_session()
    changes = {**row.changes, "training.seed": seed}
    if row.has_teacher:
        changes["training.teacher"] = str(args.teacher)
    recipe = load_recipe(
        RECIPE,
        data=args.data,
        weights=args.weights,
        changes=[f"{key}={as_toml(value)}" for key, value in changes.items()],
    )
    if row.has_teacher:
        check_training_part(recipe)
    run = Run.create(run_folder(args.out, row.name, seed), recipe)
    if row.begins:
        take_first_stage(run_folder(args.out, row.begins, seed), run.folder)
    train_supernet(recipe, run.folder, run.checkpoints, _no_display)
    evaluate(run.folder, source="keras")
    statistics = Statistics.load(run.statistics("keras"))
    parts = {"all": None, "calibration": "calibration", "report": "report"}
    miou = [
        {
            "exit": head[0],
            "head": head[1],
            **{name: head_miou(statistics, head, part) for name, part in parts.items()},
        }
        for head in statistics.heads
    ]
    result = {"row": row.name, "seed": seed, "miou": miou}
    write_json(result_path(args.out, row.name, seed), result)


def check_training_part(recipe: Recipe) -> None:
    """No evaluation image may have trained the teacher."""
    teacher = Run.open(recipe.training.teacher)
    seen = set(open_dataset(teacher.recipe.data).train.names)
    if common := seen & set(open_dataset(recipe.data).evaluation.names):
        raise MessError(
            f"{teacher.folder} was trained on {len(common)} evaluation images (one:"
            f" {min(common)}); name another teacher."
        )


def take_first_stage(donor: Path, folder: Path) -> None:
    """Copies a finished first stage; training itself checks that it is the same."""
    source, target = donor / "training", folder / "training"
    if (source / "stage2.npz").is_file() and not target.exists():
        target.mkdir()
        for name in ("stage1.jsonl", "stage1.npz"):
            shutil.copy2(source / name, target / name)


@contextlib.contextmanager
def _no_display(title: str, total: int) -> Iterator[Progress]:
    yield lambda steps, words: None


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", type=Path, help="folder of results and runs")
    parser.add_argument("--data", type=Path, required=True, help="CamVid's folder")
    parser.add_argument("--weights", help="ImageNet weights; default: downloaded")
    parser.add_argument("--teacher", type=Path, help="trained run that teaches")
    parser.add_argument("--rows", nargs="*", choices=[row.name for row in ROWS])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    return parser.parse_args()


if __name__ == "__main__":
    main()

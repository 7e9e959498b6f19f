"""``mess compile``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mess_tf.commands.arguments import check_choice, next_command
from mess_tf.core.precisions import CONVERTED, ConvertedPrecision
from mess_tf.core.supernet_spec import SupernetSpec
from mess_tf.data.augment import evaluation_image
from mess_tf.data.dataset import open_dataset
from mess_tf.runs import Run
from mess_tf.terminal.progress import progress


def compile(
    run: str | Path, *, precision: ConvertedPrecision | None = None
) -> dict[str, Any]:
    """Converts the trained network to LiteRT and cuts it into segments and heads.

    Every head's pieces are compared with Keras on a few images.

    Args:
        run: the run folder.
        precision: only this precision (default: the recipe's).

    Returns:
        ``run`` and, per precision, the number of pieces, their bytes and the largest
        difference of any head from Keras on a few images.

    Raises:
        MessError: not trained yet, or something cannot be converted.
    """
    check_choice("precision", precision, CONVERTED)
    opened = Run.open(run)
    recipe = opened.recipe
    with progress("Loading the network", 2) as step:
        from mess_tf.compiling.pieces import compile_supernet
        from mess_tf.compiling.verify import compare_pieces
        from mess_tf.models.supernet import Supernet

        supernet = Supernet.load(opened.folder).at_size()
        step()
        count = recipe.compile.calibration_images
        images = calibration_images(opened, supernet.spec, count)
        step()
    result: dict[str, Any] = {"run": str(run)}
    for wanted in [precision] if precision else recipe.compile.precisions:
        with progress(f"Compiling {wanted}") as step:
            pieces = compile_supernet(
                supernet,
                opened.pieces(wanted),
                wanted,
                images if wanted == "int8" else None,
                recipe.statistics.policies,
                step.share,
                recipe.compile.calibration_method,
            )
        with progress(f"Comparing {wanted} with Keras") as step:
            differences = compare_pieces(pieces, supernet, images[:4])
            step()
        worst = max(differences, key=lambda d: d.relative)
        result[wanted] = {
            "pieces": len(pieces.pieces),
            "bytes": sum(piece.size_bytes for piece in pieces.pieces),
            "largest_difference": worst.largest,
            "largest_relative_difference": worst.relative,
            "worst_head": f"exit {worst.exit} {worst.head}",
        }
    return result | {"next": next_command("evaluate", run, precision=precision)}


def render(result: dict[str, Any]) -> str:
    """The result as text."""
    lines = [
        f"{name}: {row['pieces']} pieces, {row['bytes'] / 1e6:.1f} MB; largest"
        f" difference from Keras {row['largest_difference']:.2g}"
        f" ({row['largest_relative_difference']:.2%} of the largest logit,"
        f" {row['worst_head']})"
        for name, row in result.items()
        if isinstance(row, dict)
    ]
    return "\n".join(lines)


def calibration_images(run: Run, spec: SupernetSpec, count: int) -> list[np.ndarray]:
    """Images of the training part, spread evenly over it, as network input."""
    source = open_dataset(run.recipe.data).train
    chosen = np.unique(np.linspace(0, len(source) - 1, count).round().astype(int))
    return [
        evaluation_image(
            source.load(int(index)).image,
            spec.image_height,
            spec.image_width,
            spec.preprocessing,
        )
        for index in chosen
    ]

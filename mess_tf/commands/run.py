"""``mess run``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mess_tf.commands.arguments import as_tuple
from mess_tf.commands.latencies import network_input
from mess_tf.core.errors import MessError
from mess_tf.core.files import write_atomically
from mess_tf.core.supernet_spec import Preprocessing
from mess_tf.data.images import read_image
from mess_tf.evaluation.predict import class_map
from mess_tf.terminal.progress import progress

if TYPE_CHECKING:
    from mess_tf.runtime.linked_model import LinkedModel
    from mess_tf.runtime.stage_plan import StagedModel


def run(
    model: str | Path,
    images: str | Path | Sequence[str | Path],
    *,
    output: str | Path = Path("overlays"),
    threads: int = 1,
) -> dict[str, Any]:
    """Segments images with an exported file and writes overlays that name the exit.

    Args:
        model: exported .tflite file, or the folder of an export in stages.
        images: image files of any size.
        output: folder for the overlays, <image name>.png.
        threads: CPU threads.

    Returns:
        ``output`` and ``images``: per image its file, overlay, exit taken and the share
        of the three most frequent classes.

    Raises:
        MessError: a file is missing, broken, or no exported model.
    """
    card, opened = _open(Path(model), threads)
    preprocessing = Preprocessing(
        **{key: tuple(value) for key, value in card["preprocessing"].items()}
    )
    palette = np.array(card["palette"], np.uint8)
    depth = {e["exit"]: i + 1 for i, e in enumerate(card["exits"])}
    rows, paths = [], as_tuple(images)
    with progress("Segmenting", len(paths)) as step:
        for path in paths:
            picture = read_image(Path(path))
            answer = opened.run(network_input(picture, opened.image, preprocessing))
            classes = class_map(answer.logits, answer.classes, *picture.shape[:2])
            label = f"exit {depth[answer.exit]} of {len(depth)}"
            target = Path(output) / f"{Path(path).stem}.png"
            write_overlay(target, picture, palette[classes], label)
            share = np.bincount(classes.ravel(), minlength=len(palette)) / classes.size
            top = [int(i) for i in np.argsort(share)[::-1][:3] if share[i] > 0]
            rows.append(
                {
                    "image": str(path),
                    "overlay": str(target),
                    "exit_point": answer.exit,
                    "exit": label,
                    "classes": {card["classes"][i]: float(share[i]) for i in top},
                }
            )
            step(1)
    return {"output": str(output), "images": rows}


def _open(
    model: Path, threads: int
) -> tuple[dict[str, Any], LinkedModel | StagedModel]:
    """The card of an export and what runs it."""
    from mess_tf.exporting.embedded_card import read_card
    from mess_tf.runtime.linked_model import LinkedModel
    from mess_tf.runtime.stage_plan import PLAN, StagedModel, StagePlan

    if model.is_dir() and not (model / PLAN).is_file():
        model = model / "model.tflite"
    if model.is_dir():
        card = read_card(model / StagePlan.load(model).stages[0].file)
        return card, StagedModel(model, threads)
    card = read_card(model)
    if card["form"]["form"] in ("stages", "progressive"):
        raise MessError(
            f"{model} is one file of several; give its folder, {model.parent}."
        )
    return card, LinkedModel(model, threads, card["thresholds"]["default"])


def write_overlay(
    path: Path, picture: np.ndarray, colours: np.ndarray, label: str
) -> None:
    """Writes the picture with its classes' colours over it and a label at the top.

    Args:
        path: of the PNG.
        picture, colours: uint8 arrays of shape (h, w, 3), RGB.
        label: text for the upper left corner.
    """
    from PIL import Image, ImageDraw, ImageFont

    mixed = (picture.astype(np.uint16) + colours) // 2
    image = Image.fromarray(mixed.astype(np.uint8))
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=max(10, image.height // 18))
    box = draw.textbbox((6, 4), label, font=font)
    draw.rectangle((0, 0, box[2] + 6, box[3] + 4), fill=(0, 0, 0))
    draw.text((6, 4), label, fill=(255, 255, 255), font=font)
    with write_atomically(path) as temporary:
        image.save(temporary, format="PNG")


def render(result: dict[str, Any]) -> str:
    """One line per image."""
    lines = [
        f"{row['image']}: {row['exit']}, "
        + ", ".join(f"{name} {share:.0%}" for name, share in row["classes"].items())
        for row in result["images"]
    ]
    return "\n".join([*lines, f"Overlays are in {result['output']}"])

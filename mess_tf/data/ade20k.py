"""ADE20K as the scene parsing challenge has it: 150 classes, 0 = anything else."""

from __future__ import annotations

from pathlib import Path

from mess_tf.core.errors import MessError
from mess_tf.data.pairs import ImageMaskPair, PairSource, id_table, require_files
from mess_tf.data.sources import BY_IMAGE, IGNORE_LABEL, default_palette, group_names

_NAMES_FILE = "objectInfo150.txt"


def open_ade20k(split: str, *, path: Path | str, group: str = "") -> PairSource:
    """Opens one split of ADE20K.

    Args:
        split: ``training`` or ``validation``.
        path: ``ADEChallengeData2016``: folder with ``images``, ``annotations`` and
            ``objectInfo150.txt``, which gives the classes their names.
        group: regular expression, see ``sources.group_names``; empty: every image.

    Raises:
        MessError: a folder, an image or a mask is missing; the message names it.
    """
    root = Path(path)
    folder = root / "images" / split
    images = sorted(folder.glob("*.jpg"))
    if not images:
        raise MessError(
            f"There is no image *.jpg in {folder}; set data.path to"
            " ADEChallengeData2016, data.train to training, data.val to validation."
        )
    masks = root / "annotations" / split
    pairs = [
        ImageMaskPair(image.stem, image, masks / f"{image.stem}.png")
        for image in images
    ]
    require_files(pairs)
    classes = _read_names(root / _NAMES_FILE)
    return PairSource(
        pairs,
        classes,
        id_table(range(1, len(classes) + 1), [0, IGNORE_LABEL]),
        default_palette(len(classes)),
        group_names([pair.name for pair in pairs], group or BY_IMAGE, split),
    )


def _read_names(file: Path) -> tuple[str, ...]:
    """The first of every class's names, in the order of the ids."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise MessError(
            f"The list of classes {file} cannot be read: {error}."
        ) from error
    rows = [line.split("\t") for line in lines[1:] if line.strip()]
    numbers = [row[0].strip() for row in rows]
    if numbers != [str(k) for k in range(1, len(rows) + 1)] or len(rows) < 2:
        raise MessError(
            f"{file} is no list of classes: expected a heading, then lines with the id"
            " (1, 2, ...) first and the names last, between tabs."
        )
    return tuple(row[-1].split(",")[0].strip() for row in rows)

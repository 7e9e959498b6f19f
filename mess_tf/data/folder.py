"""A data set in a folder: ``images/<split>``, ``masks/<split>`` and ``classes.txt``.

Masks are PNG files of 8-bit label ids, named like their images; ``classes.txt`` holds
one class name per line, in the order of the ids.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np

from mess_tf.core.errors import MessError
from mess_tf.data.images import IMAGE_SUFFIXES
from mess_tf.data.pairs import ImageMaskPair, PairSource, id_table, require_files
from mess_tf.data.sources import IGNORE_LABEL, default_palette, group_names

_MOST_CLASSES = 254


def open_folder(
    split: str,
    *,
    path: Path | str,
    ignore_label: int | None = None,
    group: str = "",
) -> PairSource:
    """Opens one split of a folder data set.

    Args:
        path: the data set's folder.
        split: name of the subfolder of ``images`` and ``masks``.
        ignore_label: the id that means void *in the files*. None or 255: both 255 and
            the number of classes do. 255 is void in any case.
        group: regular expression, see ``sources.group_names``.

    Raises:
        MessError: something is missing; the message names it. Files are not opened
            here: see ``PairSource.validate``.
    """
    folder = Path(path)
    classes = _read_classes(folder)
    table = _label_table(len(classes), ignore_label)
    pairs = _find_pairs(folder, split)
    return PairSource(
        pairs,
        classes,
        table,
        default_palette(len(classes)),
        group_names([pair.name for pair in pairs], group, split),
        f"Correct the mask or {folder / 'classes.txt'}, or set data.ignore_label.",
    )


def _label_table(classes: int, ignore_label: int | None) -> np.ndarray:
    """int64 array of shape (256,): id in a file -> label in memory, -1 = unknown."""
    table = id_table(range(classes), [IGNORE_LABEL])
    if ignore_label is None or ignore_label == IGNORE_LABEL:
        table[classes] = IGNORE_LABEL
    elif 0 <= ignore_label <= 255:
        table[ignore_label] = IGNORE_LABEL
    else:
        raise MessError(f"The ignore label {ignore_label} is not in 0..255.")
    return table


def _read_classes(path: Path) -> tuple[str, ...]:
    if not path.is_dir():
        what = "is no folder" if path.exists() else "does not exist"
        raise MessError(
            f"The data set's folder {path} {what}; give --data (data.path of the"
            " recipe) a folder with classes.txt, images/{train,val} and"
            " masks/{train,val}."
        )
    file = path / "classes.txt"
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise MessError(
            f"There is no {file}; write one class name per line, in the order of"
            " the ids."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise MessError(
            f"The list of classes {file} cannot be read: {error}."
        ) from error
    classes = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not 2 <= len(classes) <= _MOST_CLASSES:
        raise MessError(
            f"{file} names {len(classes)} classes; accepted: 2..{_MOST_CLASSES}, one"
            " per line."
        )
    for name in classes:
        if classes.count(name) > 1:
            raise MessError(f"{file} names the class {name!r} twice.")
    return classes


def _find_pairs(path: Path, split: str) -> list[ImageMaskPair]:
    """Images of a split sorted by name, with their masks (that exist)."""
    folder = path / "images" / split
    if not folder.is_dir():
        splits = sorted(p.name for p in (path / "images").glob("*") if p.is_dir())
        raise MessError(
            f"There is no split {split!r}: {folder} is missing; found under"
            f" {path / 'images'}: {', '.join(splits) or 'nothing'}."
        )
    # Names with a leading dot are other programs' leavings (macOS: ._NAME.jpg).
    images = sorted(
        (
            p
            for p in folder.iterdir()
            if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")
        ),
        key=lambda p: p.stem,
    )
    if not images:
        raise MessError(
            f"The split {split!r} is empty: no image in {folder} (accepted:"
            f" {', '.join(IMAGE_SUFFIXES)})."
        )
    for one, other in itertools.pairwise(images):
        if one.stem == other.stem:
            raise MessError(
                f"Two images share one name and so one mask: {one} and {other.name};"
                " rename or remove one."
            )
    masks = path / "masks" / split
    pairs = [
        ImageMaskPair(image.stem, image, masks / f"{image.stem}.png")
        for image in images
    ]
    require_files(pairs)
    return pairs

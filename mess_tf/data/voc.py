"""PASCAL VOC 2012 as it is distributed, with SBD's additional training masks.

Split ``trainaug`` is what the literature trains on: all images with a mask in VOC's
training list or in SBD (its ``train`` and ``val`` together), less VOC's ``val``. Its
list comes ready made (``trainaug.txt``) or is put together from the official ones. An
image that VOC itself has segmented keeps VOC's mask, which is drawn finer.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mess_tf.core.errors import MessError
from mess_tf.data.pairs import ImageMaskPair, PairSource, id_table, require_files
from mess_tf.data.sources import BY_IMAGE, IGNORE_LABEL, group_names

CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat",
    "chair", "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant",
    "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip

TRAINAUG = "trainaug"
TRAINAUG_IMAGES = 10_582

_LISTS = Path("ImageSets/Segmentation")
_TRAINAUG_FILES = ("trainaug.txt", "train_aug.txt")


def open_voc(
    split: str,
    *,
    path: Path | str,
    sbd: Path | str = "",
    trainaug_images: int = TRAINAUG_IMAGES,
    group: str = "",
) -> PairSource:
    """Opens one split of VOC 2012.

    Args:
        split: a list in ``ImageSets/Segmentation`` (``train``, ``val``, ``trainval``),
            or ``trainaug``.
        path: ``VOC2012``, or a folder with ``VOC2012`` or ``VOCdevkit/VOC2012``.
        sbd: SBD's ``dataset``, or a folder with ``dataset`` or
            ``benchmark_RELEASE/dataset``; not needed where ``path`` has
            ``SegmentationClassAug`` and ``trainaug.txt``.
        trainaug_images: how many ``trainaug`` must have; 0 = any number.
        group: regular expression, see ``sources.group_names``; empty: every image.

    Raises:
        MessError: a list, an image or a mask is missing, or ``trainaug`` has another
            number of images or some of ``val``.
    """
    root = _find(
        Path(path), ("", "VOC2012", "VOCdevkit/VOC2012"), _LISTS, "VOC 2012", "path"
    )
    extra = None
    if sbd:
        places = ("", "dataset", "benchmark_RELEASE/dataset")
        extra = _find(Path(sbd), places, Path("cls"), "SBD", "sbd")
    if split == TRAINAUG:
        names = _trainaug(root, extra, trainaug_images)
    else:
        names = _read_list(root / _LISTS, split)
    pairs = [
        ImageMaskPair(
            name, root / "JPEGImages" / f"{name}.jpg", _mask(root, extra, name)
        )
        for name in sorted(names)
    ]
    require_files(pairs)
    return PairSource(
        pairs,
        CLASSES,
        id_table(range(len(CLASSES)), [IGNORE_LABEL]),
        voc_palette(len(CLASSES)),
        group_names([pair.name for pair in pairs], group or BY_IMAGE, split),
    )


def voc_palette(classes: int) -> np.ndarray:
    """VOC's colours, as in its palette PNGs: the bits of an id, dealt to the channels.

    Returns:
        uint8 array of shape (classes, 3), RGB.
    """
    ids = np.arange(classes)[:, None]
    colours = np.zeros((classes, 3), np.int64)
    for place in range(3):
        colours |= (ids >> (3 * place + np.arange(3)) & 1) << (7 - place)
    return colours.astype(np.uint8)


def _trainaug(root: Path, sbd: Path | None, wanted: int) -> set[str]:
    """Names of the augmented training list, checked."""
    lists = root / _LISTS
    val = _read_list(lists, "val")
    ready = next((f for f in _TRAINAUG_FILES if (lists / f).is_file()), None)
    if ready is not None:
        source = str(lists / ready)
        names = _read_list(lists, Path(ready).stem)
        common = sorted(names & val)
        if common:
            raise MessError(
                f"{source} names {len(common)} images of VOC's val (the first:"
                f" {common[0]}); training on them would spoil every figure. Remove"
                " them, or delete the file and set data.sbd."
            )
    elif sbd is not None:
        source = f"VOC's train and SBD's lists in {sbd}"
        voc = _read_list(lists, "train")
        names = (voc | _read_list(sbd, "train") | _read_list(sbd, "val")) - val
    else:
        raise MessError(
            f"There is no {lists / _TRAINAUG_FILES[0]} for split 'trainaug'; add it"
            " with the masks in SegmentationClassAug, or set data.sbd to SBD's folder."
        )
    if wanted and len(names) != wanted:
        raise MessError(
            f"The augmented training list has {len(names)} images instead of {wanted}"
            f" (from {source}); complete it, or set data.trainaug_images = 0 to take it"
            " as it is."
        )
    return names


def _mask(root: Path, sbd: Path | None, name: str) -> Path:
    """VOC's mask, else the additional one (that may not exist)."""
    original = root / "SegmentationClass" / f"{name}.png"
    added = root / "SegmentationClassAug" / f"{name}.png"
    if original.is_file() or (sbd is None and not added.parent.is_dir()):
        return original
    return added if sbd is None or added.is_file() else sbd / "cls" / f"{name}.mat"


def _find(path: Path, places: tuple[str, ...], mark: Path, what: str, key: str) -> Path:
    for place in places:
        if (path / place / mark).is_dir():
            return path / place
    raise MessError(
        f"{path} does not hold {what}: there is no {path / mark}, nor in"
        f" {' or '.join(places[1:])}; set data.{key}."
    )


def _read_list(folder: Path, split: str) -> set[str]:
    """Names in a list of images, one per line; of paths the file's name counts."""
    file = folder / f"{split}.txt"
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        found = ", ".join(sorted(f.stem for f in folder.glob("*.txt"))) or "nothing"
        raise MessError(
            f"There is no list {file}; found in {folder}: {found}."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise MessError(f"The list {file} cannot be read: {error}.") from error
    names = {Path(line.split()[0]).stem for line in lines if line.strip()}
    if not names:
        raise MessError(f"The list {file} names no image.")
    return names

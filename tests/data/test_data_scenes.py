"""Cityscapes and ADE20K in their official layouts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mess_tf.core.errors import MessError
from mess_tf.data.ade20k import open_ade20k
from mess_tf.data.cityscapes import open_cityscapes

FRAMES = ("aachen_000000_000019", "aachen_000001_000019", "ulm_000005_000019")


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


# --- Cityscapes -----------------------------------------------------------------------

# Every id of the official definitions once, then a licence plate's -1 as 255.
CITY_IDS = np.append(np.arange(34, dtype=np.uint8), np.uint8(255)).reshape(5, 7)


@pytest.fixture
def cityscapes(tmp_path: Path) -> Path:
    for frame in FRAMES:
        city = frame.split("_")[0]
        photo = tmp_path / f"leftImg8bit/train/{city}/{frame}_leftImg8bit.png"
        save(photo, np.zeros((5, 7, 3), np.uint8))
        masks = tmp_path / f"gtFine/train/{city}"
        save(masks / f"{frame}_gtFine_labelIds.png", CITY_IDS)
        # Others of the official files, which must not be taken for these.
        save(masks / f"{frame}_gtFine_instanceIds.png", CITY_IDS)
        save(masks / f"{frame}_gtFine_color.png", np.zeros((5, 7, 3), np.uint8))
    return tmp_path


def test_cityscapes_ids_become_the_19_classes_of_the_benchmark(
    cityscapes: Path,
) -> None:
    source = open_cityscapes("train", path=cityscapes)
    assert source.names == FRAMES and source.groups == ("aachen", "aachen", "ulm")
    labels = source.load(0).labels.ravel()
    counted = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
    assert labels[counted].tolist() == list(range(19))
    assert (np.delete(labels, counted) == 255).all()
    assert (source.classes[13], source.classes[18]) == ("car", "bicycle")
    assert source.palette.shape == (19, 3)
    assert source.validate().void_pixels == 3 * 16


def test_cityscapes_names_what_is_missing_or_wrong(cityscapes: Path) -> None:
    with pytest.raises(MessError, match=r"no image CITY/.*leftImg8bit/val"):
        open_cityscapes("val", path=cityscapes)
    mask = cityscapes / f"gtFine/train/ulm/{FRAMES[2]}_gtFine_labelIds.png"
    save(mask, np.full((5, 7), 34, np.uint8))
    source = open_cityscapes("train", path=cityscapes)
    with pytest.raises(MessError, match=r"ulm.*labelIds.png has unknown .*: 34\."):
        source.load(2)
    mask.unlink()
    with pytest.raises(MessError, match=r"ulm.*has no mask: .*labelIds.png is missing"):
        open_cityscapes("train", path=cityscapes)


# --- ADE20K ---------------------------------------------------------------------------


@pytest.fixture
def ade20k(tmp_path: Path) -> Path:
    ids = np.arange(6, dtype=np.uint8).reshape(2, 3)
    for number in (1, 2):
        name = f"ADE_val_{number:08d}"
        save(tmp_path / f"images/validation/{name}.jpg", np.zeros((2, 3, 3), np.uint8))
        save(tmp_path / f"annotations/validation/{name}.png", ids)
    names = ("wall", "building, edifice", "sky ", "floor, flooring", "tree")
    rows = [f"{k}\t0.1\t9\t9\t1\t{name}" for k, name in enumerate(names, start=1)]
    heading = "Idx\tRatio\tTrain\tVal\tStuff\tName"
    (tmp_path / "objectInfo150.txt").write_text("\n".join([heading, *rows]) + "\n")
    return tmp_path


def test_ade20k_ids_begin_at_one_and_0_is_void(ade20k: Path) -> None:
    source = open_ade20k("validation", path=ade20k)
    assert source.classes == ("wall", "building", "sky", "floor", "tree")
    assert source.load(1).labels.ravel().tolist() == [255, 0, 1, 2, 3, 4]


def test_ade20k_names_what_is_missing_or_wrong(ade20k: Path) -> None:
    with pytest.raises(MessError, match=r"images/val; set data.path to ADEChallenge"):
        open_ade20k("val", path=ade20k)
    save(ade20k / "annotations/validation/ADE_val_00000002.png",
         np.full((2, 3), 9, np.uint8))  # fmt: skip
    with pytest.raises(
        MessError, match=r"2.png .*: 9\. Accepted: 1..5 and void: 0, 255"
    ):
        open_ade20k("validation", path=ade20k).validate()
    (ade20k / "objectInfo150.txt").write_text("Name\nwall\nsky\n")
    with pytest.raises(MessError, match=r"objectInfo150.txt is no list of classes"):
        open_ade20k("validation", path=ade20k)
    (ade20k / "objectInfo150.txt").unlink()
    with pytest.raises(MessError, match=r"objectInfo150.txt cannot be read"):
        open_ade20k("validation", path=ade20k)

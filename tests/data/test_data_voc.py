"""PASCAL VOC and SBD in their official layouts: lists, masks, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from mess_tf.core.errors import MessError
from mess_tf.data.dataset import open_dataset
from mess_tf.data.voc import CLASSES, open_voc, voc_palette
from mess_tf.recipe.sections import Data

TRAIN = ("2007_000032", "2007_000039")
VAL = ("2007_000033", "2007_000042", "2007_000061")
# SBD cuts its images elsewhere: its train holds one of VOC's val, its val one of train.
SBD_TRAIN = ("2008_000002", "2007_000033", "2008_000007")
SBD_VAL = ("2007_000039", "2009_000001")
TRAINAUG = tuple(sorted({*TRAIN, "2008_000002", "2008_000007", "2009_000001"}))
SIZE = (24, 36)


def write_photo(path: Path, seed: int, mode: str = "RGB", turn: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    size = SIZE if turn < 5 else SIZE[::-1]
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(pixels).convert(mode).save(path, quality=95, exif=exif)


def mask_of(name: str) -> np.ndarray:
    """An object of a class of its own with VOC's border of 255 around it."""
    labels = np.zeros(SIZE, np.uint8)
    labels[4:18, 5:29] = 255
    labels[6:16, 7:27] = 1 + sum(map(ord, name)) % 20
    return labels


def write_palette_mask(path: Path, labels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(labels, mode="L").convert("P")
    picture.putpalette(voc_palette(256).ravel().tolist())
    picture.putdata(labels.ravel().tolist())
    picture.save(path)


def write_sbd_mask(path: Path, labels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    present = np.unique(labels[(labels > 0) & (labels < 255)])[:, None]
    savemat(
        path,
        {"GTcls": {"Segmentation": labels, "CategoriesPresent": present}},
        do_compression=True,
    )


def write_list(path: Path, names: tuple[str, ...]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in names))


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """VOCdevkit with five segmented images and SBD's three more (photos only)."""
    root = tmp_path / "VOCdevkit/VOC2012"
    lists = root / "ImageSets/Segmentation"
    write_list(lists / "train.txt", TRAIN)
    write_list(lists / "val.txt", VAL)
    write_list(lists / "trainval.txt", (*TRAIN, *VAL))
    for seed, name in enumerate(sorted({*TRAIN, *VAL, *SBD_TRAIN, *SBD_VAL})):
        write_photo(root / f"JPEGImages/{name}.jpg", seed)
    for name in (*TRAIN, *VAL):
        write_palette_mask(root / f"SegmentationClass/{name}.png", mask_of(name))
    return tmp_path / "VOCdevkit"


@pytest.fixture
def sbd(tmp_path: Path) -> Path:
    """SBD as unpacked, with masks (one class higher) for images of VOC's too."""
    root = tmp_path / "benchmark_RELEASE/dataset"
    write_list(root / "train.txt", SBD_TRAIN)
    write_list(root / "val.txt", SBD_VAL)
    for name in (*SBD_TRAIN, *SBD_VAL):
        write_sbd_mask(root / f"cls/{name}.mat", sbd_mask(name))
    return tmp_path / "benchmark_RELEASE"


def sbd_mask(name: str) -> np.ndarray:
    labels = mask_of(name)
    labels[labels == 255] = 0  # SBD knows no border
    labels[0, 0] = 20
    return labels


@pytest.mark.parametrize("start", ["", "VOC2012", ".."])
def test_splits_are_the_official_lists_wherever_the_folder_begins(
    voc: Path, start: str
) -> None:
    source = open_voc("val", path=voc / start)
    assert source.names == VAL
    assert source.classes == CLASSES and len(CLASSES) == 21
    assert open_voc("trainval", path=voc).names == tuple(sorted((*TRAIN, *VAL)))


def test_palette_masks_come_back_as_ids_and_the_border_as_void(voc: Path) -> None:
    source = open_voc("train", path=voc)
    sample = source.load(1)
    np.testing.assert_array_equal(sample.labels, mask_of(TRAIN[1]))
    assert (sample.labels == source.ignore_label).sum() == 14 * 24 - 10 * 20
    assert sample.image.shape == (*SIZE, 3)


def test_colours_are_those_of_the_development_kit() -> None:
    expected = {1: (128, 0, 0), 2: (0, 128, 0), 8: (64, 0, 0), 15: (192, 128, 128),
                16: (0, 64, 0), 20: (0, 64, 128)}  # fmt: skip
    palette = voc_palette(21)
    assert {k: tuple(palette[k].tolist()) for k in expected} == expected
    assert tuple(voc_palette(256)[255].tolist()) == (224, 224, 192)


# --- The augmented training list ------------------------------------------------------


@pytest.mark.parametrize("start", ["", "dataset"])
def test_trainaug_is_train_and_all_of_sbd_less_val(
    voc: Path, sbd: Path, start: str
) -> None:
    source = open_voc("trainaug", path=voc, sbd=sbd / start, trainaug_images=5)
    assert source.names == TRAINAUG
    assert not set(source.names) & set(VAL)
    for index, name in enumerate(source.names):
        # VOC's own mask wins where there is one: only it has the border.
        expected = mask_of(name) if name in TRAIN else sbd_mask(name)
        np.testing.assert_array_equal(source.load(index).labels, expected)


def test_trainaug_comes_ready_made_too(voc: Path) -> None:
    root = voc / "VOC2012"
    lines = tuple(
        f"/JPEGImages/{n}.jpg /SegmentationClassAug/{n}.png" for n in TRAINAUG
    )
    write_list(root / "ImageSets/Segmentation/train_aug.txt", lines)
    (root / "SegmentationClassAug").mkdir()
    for name in set(TRAINAUG) - set(TRAIN):
        mask = Image.fromarray(sbd_mask(name))
        mask.save(root / f"SegmentationClassAug/{name}.png")
    source = open_voc("trainaug", path=voc, trainaug_images=5)
    assert source.names == TRAINAUG
    np.testing.assert_array_equal(source.load(3).labels, sbd_mask(TRAINAUG[3]))


def test_trainaug_of_another_length_is_refused_unless_told(
    voc: Path, sbd: Path
) -> None:
    with pytest.raises(MessError, match=r"has 5 images instead of 10582 .*SBD's lists"):
        open_voc("trainaug", path=voc, sbd=sbd)
    assert len(open_voc("trainaug", path=voc, sbd=sbd, trainaug_images=0)) == 5


def test_a_trainaug_list_with_images_of_val_is_refused(voc: Path) -> None:
    lists = voc / "VOC2012/ImageSets/Segmentation"
    write_list(lists / "trainaug.txt", (*TRAIN, VAL[1], VAL[2]))
    with pytest.raises(MessError, match=r"trainaug.txt names 2 .*first: 2007_000042"):
        open_voc("trainaug", path=voc, trainaug_images=4)


def test_trainaug_without_masks_says_what_to_get(voc: Path) -> None:
    with pytest.raises(MessError, match=r"no .*trainaug.txt .* set data.sbd"):
        open_voc("trainaug", path=voc)


# --- Photographs ----------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "turn"), [("L", 1), ("CMYK", 1), ("RGB", 6)])
def test_grey_cmyk_and_turned_photographs_are_read_as_shown(
    voc: Path, mode: str, turn: int
) -> None:
    photo = voc / f"VOC2012/JPEGImages/{VAL[0]}.jpg"
    write_photo(photo, 9, mode, turn)
    source = open_voc("val", path=voc)
    source.validate()
    image = source.load(0).image
    assert image.shape == (*SIZE, 3)
    with Image.open(photo) as stored:
        pixels = np.array(stored.convert("RGB"))
    expected = np.rot90(pixels, -1) if turn == 6 else pixels
    np.testing.assert_array_equal(image, expected)


# --- Bad data -------------------------------------------------------------------------


def _sbd_cut(voc: Path, sbd: Path) -> None:
    file = sbd / "dataset/cls/2008_000007.mat"
    file.write_bytes(file.read_bytes()[:-20])


def _sbd_other(voc: Path, sbd: Path) -> None:
    savemat(sbd / "dataset/cls/2008_000007.mat", {"GTinst": 1})


def _sbd_floats(voc: Path, sbd: Path) -> None:
    write_sbd_mask(sbd / "dataset/cls/2008_000007.mat", np.zeros(SIZE))


def _sbd_text(voc: Path, sbd: Path) -> None:
    (sbd / "dataset/cls/2008_000007.mat").write_text("404: not found")


def _sbd_size(voc: Path, sbd: Path) -> None:
    write_sbd_mask(sbd / "dataset/cls/2008_000007.mat", np.zeros((24, 35), np.uint8))


def _sbd_id(voc: Path, sbd: Path) -> None:
    write_sbd_mask(sbd / "dataset/cls/2008_000007.mat", np.full(SIZE, 21, np.uint8))


def _cut_photo(voc: Path, sbd: Path) -> None:
    file = voc / "VOC2012/JPEGImages/2008_000002.jpg"
    file.write_bytes(file.read_bytes()[:400])


def _empty_mat(voc: Path, sbd: Path) -> None:
    (sbd / "dataset/cls/2008_000007.mat").write_bytes(b"")


BROKEN: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "cut mat": (_sbd_cut, r"mask .*2008_000007.mat cannot be read"),
    "other mat": (_sbd_other, r"mask .*2008_000007.mat cannot be read .*GTcls"),
    "floats": (_sbd_floats, r"2008_000007.mat has an array of float64"),
    "text": (_sbd_text, r"mask .*2008_000007.mat cannot be read"),
    "empty": (_empty_mat, r"mask .*2008_000007.mat cannot be read"),
    "size": (_sbd_size, r"2008_000007.mat is 35x24 .*2008_000007.jpg is 36x24"),
    "id": (_sbd_id, r"2008_000007.mat has unknown label ids: 21\. Accepted: 0..20 and"),
    "cut photo": (_cut_photo, r"image .*2008_000002.jpg cannot be read"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_named_in_one_line(voc: Path, sbd: Path, case: str) -> None:
    damage, message = BROKEN[case]
    damage(voc, sbd)
    source = open_voc("trainaug", path=voc, sbd=sbd, trainaug_images=5)
    with pytest.raises(MessError, match=message) as caught:
        source.validate()
    assert "\n" not in str(caught.value)
    with pytest.raises(MessError, match=message):
        for index in range(len(source)):
            source.load(index)


def test_every_cut_of_a_mat_file_is_refused_or_harmless(sbd: Path) -> None:
    from mess_tf.data.sbd import read_sbd_labels

    file = sbd / "dataset/cls/2008_000002.mat"
    whole = file.read_bytes()
    for length in range(0, len(whole), 3):
        file.write_bytes(whole[:length])
        with pytest.raises(MessError, match="2008_000002.mat cannot be read"):
            read_sbd_labels(file)


def test_missing_files_and_lists_are_named(voc: Path, sbd: Path) -> None:
    with pytest.raises(MessError, match=r"no list .*test.txt; found .*train, trainval"):
        open_voc("test", path=voc)
    with pytest.raises(MessError, match=r"does not hold VOC 2012.*set data.path"):
        open_voc("val", path=voc / "VOC2012/JPEGImages")
    with pytest.raises(MessError, match=r"does not hold SBD.*set data.sbd"):
        open_voc("val", path=voc, sbd=voc)
    (sbd / "dataset/cls/2009_000001.mat").unlink()
    with pytest.raises(MessError, match=r"no mask: .*2009_000001.mat is missing"):
        open_voc("trainaug", path=voc, sbd=sbd, trainaug_images=5)
    (voc / f"VOC2012/JPEGImages/{VAL[0]}.jpg").unlink()
    with pytest.raises(MessError, match=rf"image .*{VAL[0]}.jpg is missing"):
        open_voc("val", path=voc)
    (voc / f"VOC2012/SegmentationClass/{TRAIN[0]}.png").unlink()
    with pytest.raises(MessError, match=rf"{TRAIN[0]}.jpg has no mask: .*{TRAIN[0]}"):
        open_voc("train", path=voc)


# --- As a recipe's data ---------------------------------------------------------------


def test_a_recipe_opens_voc_and_refuses_splits_that_share_images(
    voc: Path, sbd: Path
) -> None:
    data = Data(
        kind="voc", path=str(voc), sbd=str(sbd), train="trainaug", trainaug_images=5
    )
    opened = open_dataset(data)
    assert opened.train.names == TRAINAUG
    assert opened.evaluation.names == VAL
    leaking = Data(kind="voc", path=str(voc), train="trainval", val="val")
    with pytest.raises(MessError, match=r"3 images are in both 'trainval' and 'val'"):
        open_dataset(leaking)

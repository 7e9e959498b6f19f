"""Folder data sets: what is accepted, and one clear line for everything else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mess_tf.core.errors import MessError
from mess_tf.data.folder import open_folder
from mess_tf.data.images import read_image, read_labels


def test_samples_come_back_as_written(folder: Path) -> None:
    source = open_folder("train", path=folder)
    assert source.names == ("s0_a", "s0_b", "s1_c", "s1_d")
    assert source.classes == ("sky", "road", "tree")
    assert source.palette.shape == (3, 3)
    sample = source.load(2)
    image = np.array(Image.open(folder / "images/train/s1_c.png"))
    mask = np.array(Image.open(folder / "masks/train/s1_c.png"))
    np.testing.assert_array_equal(sample.image, image)
    np.testing.assert_array_equal(sample.labels[1:], mask[1:])
    assert sample.labels.dtype == np.uint8


def test_void_is_255_and_the_number_of_classes(folder: Path) -> None:
    labels = open_folder("train", path=folder).load(0).labels
    assert labels[0, 0] == 255 and labels[0, 1] == 255


def test_a_given_ignore_label_takes_the_place_of_the_number_of_classes(
    folder: Path,
) -> None:
    with pytest.raises(MessError, match=r"unknown label ids: 3\."):
        open_folder("train", path=folder, ignore_label=1).load(0)
    mask = folder / "masks/train/s0_a.png"
    labels = np.array(Image.open(mask))
    labels[labels == 3] = 1
    Image.fromarray(labels).save(mask)
    loaded = open_folder("train", path=folder, ignore_label=1).load(0).labels
    np.testing.assert_array_equal(loaded == 255, (labels == 1) | (labels == 255))


def test_groups_come_from_the_pattern_or_from_blocks(folder: Path) -> None:
    assert open_folder("train", path=folder, group="^([^_]+)_").groups == (
        "s0", "s0", "s1", "s1",
    )  # fmt: skip
    assert open_folder("train", path=folder).groups == tuple(
        f"train_block{k}" for k in (1, 2, 3, 4)
    )
    with pytest.raises(MessError, match="does not match the image name 's0_a'"):
        open_folder("train", path=folder, group="^s1")
    with pytest.raises(MessError, match="no regular expression"):
        open_folder("train", path=folder, group="(")


def test_validate_counts_pixels_by_hand(folder: Path) -> None:
    calls: list[int] = []
    summary = open_folder("train", path=folder).validate(lambda: calls.append(1))
    masks = [np.array(Image.open(p)) for p in (folder / "masks/train").iterdir()]
    expected = [sum(int((m == c).sum()) for m in masks) for c in range(3)]
    assert summary.pixels.tolist() == expected
    assert summary.void_pixels == 8
    assert (summary.images, summary.smallest, summary.largest) == (
        4,
        (20, 30),
        (20, 30),
    )
    assert len(calls) == 4


# --- Bad data -----------------------------------------------------------------------


def _cut(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def _resize_mask(folder: Path) -> None:
    path = folder / "masks/train/s1_c.png"
    Image.open(path).resize((29, 20)).save(path)


def _colour_mask(folder: Path) -> None:
    path = folder / "masks/train/s1_c.png"
    Image.open(path).convert("RGB").save(path)


def _unknown_id(folder: Path) -> None:
    path = folder / "masks/train/s1_c.png"
    labels = np.array(Image.open(path))
    labels[5, 5] = 77
    Image.fromarray(labels).save(path)


def _deep_image(folder: Path) -> None:
    Image.fromarray(np.zeros((20, 30), np.uint16)).save(
        folder / "images/train/s1_c.png"
    )


BROKEN_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated jpeg": (lambda f: _cut(f / "images/train/s0_a.jpg"), "s0_a.jpg cannot"),
    "truncated png": (lambda f: _cut(f / "images/train/s1_c.png"), "s1_c.png cannot"),
    "truncated mask": (
        lambda f: _cut(f / "masks/train/s1_c.png"),
        r"mask .*s1_c.png cannot",
    ),
    "no image at all": (
        lambda f: (f / "images/train/s0_b.png").write_text("hello"),
        "s0_b.png cannot be read",
    ),
    "empty file": (
        lambda f: (f / "masks/train/s0_b.png").write_bytes(b""),
        "s0_b.png cannot be read",
    ),
    "size": (_resize_mask, r"s1_c.png is 29x20 pixels.*s1_c.png is 30x20"),
    "colour mask": (
        _colour_mask,
        r"s1_c.png has pixels of type 'RGB'.*8-bit label ids",
    ),
    "unknown id": (_unknown_id, r"s1_c.png has unknown label ids: 77\. Accepted: 0..2"),
    "16 bits": (_deep_image, r"s1_c.png has pixels of type 'I;16'.*8-bit"),
}


@pytest.mark.parametrize("case", BROKEN_FILES)
def test_validation_names_the_broken_file_in_one_line(folder: Path, case: str) -> None:
    damage, message = BROKEN_FILES[case]
    damage(folder)
    with pytest.raises(MessError, match=message) as caught:
        open_folder("train", path=folder).validate()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("case", BROKEN_FILES)
def test_loading_refuses_what_validation_refuses(folder: Path, case: str) -> None:
    damage, message = BROKEN_FILES[case]
    damage(folder)
    source = open_folder("train", path=folder)
    with pytest.raises(MessError, match=message):
        for index in range(len(source)):
            source.load(index)


def test_validation_says_how_many_more_are_bad(folder: Path) -> None:
    _unknown_id(folder)
    _cut(folder / "images/train/s0_a.jpg")
    with pytest.raises(MessError, match=r"s0_a.jpg.*\(1 more files of this split"):
        open_folder("train", path=folder).validate()


def _second_name(folder: Path) -> None:
    Image.new("RGB", (30, 20)).save(folder / "images/train/s0_a.png")


def _only_tiff(folder: Path) -> None:
    for path in (folder / "images/train").iterdir():
        path.rename(path.with_suffix(".tif"))


BROKEN_LAYOUTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing mask": (
        lambda f: (f / "masks/train/s1_c.png").unlink(),
        r"s1_c.png has no mask: .*masks/train/s1_c.png is missing",
    ),
    "no classes": (lambda f: (f / "classes.txt").unlink(), "no .*classes.txt"),
    "one class": (lambda f: (f / "classes.txt").write_text("sky\n"), "names 1 classes"),
    "class twice": (
        lambda f: (f / "classes.txt").write_text("sky\nroad\nsky\n"),
        "'sky' twice",
    ),
    "binary classes": (
        lambda f: (f / "classes.txt").write_bytes(b"\xff\xfe\x00s"),
        "classes.txt cannot be read",
    ),
    "empty split": (_only_tiff, r"split 'train' is empty: .*\.jpg"),
    "one name twice": (_second_name, r"share one name.*s0_a\.jpg and s0_a\.png"),
}


@pytest.mark.parametrize("case", BROKEN_LAYOUTS)
def test_opening_names_what_is_wrong_with_the_layout(folder: Path, case: str) -> None:
    damage, message = BROKEN_LAYOUTS[case]
    damage(folder)
    with pytest.raises(MessError, match=message) as caught:
        open_folder("train", path=folder)
    assert "\n" not in str(caught.value)


def test_an_unknown_split_lists_those_that_are_there(folder: Path) -> None:
    with pytest.raises(MessError, match=r"no split 'val'.*: train\."):
        open_folder("val", path=folder)


def test_a_path_that_is_no_folder_is_named_with_what_is_accepted(folder: Path) -> None:
    for name, what in (("nowhere", "does not exist"), ("classes.txt", "is no folder")):
        accepted = rf"folder \S+{name} {what}; give --data .* classes\.txt, images/"
        with pytest.raises(MessError, match=accepted):
            open_folder("train", path=folder / name)


@pytest.mark.parametrize("label", [-1, 256])
def test_an_ignore_label_out_of_range_is_refused(folder: Path, label: int) -> None:
    with pytest.raises(MessError, match="not in 0..255"):
        open_folder("train", path=folder, ignore_label=label)


def test_other_programs_leavings_are_skipped(folder: Path) -> None:
    (folder / "images/train/._s0_a.jpg").write_bytes(b"x")
    (folder / "images/train/Thumbs.db").write_bytes(b"x")
    assert len(open_folder("train", path=folder)) == 4


# --- Kinds of image -----------------------------------------------------------------

COLOURS = np.array([[[10, 20, 30], [200, 100, 50]]], np.uint8)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1"])
def test_every_kind_of_image_becomes_what_a_viewer_shows(
    tmp_path: Path, mode: str
) -> None:
    path = tmp_path / "image.png"
    picture = Image.fromarray(COLOURS).convert(mode)
    picture.save(path)
    np.testing.assert_array_equal(read_image(path), np.array(picture.convert("RGB")))


def test_a_palette_with_transparency_keeps_its_colours(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    picture = Image.fromarray(COLOURS).convert("P", palette=Image.Palette.ADAPTIVE)
    picture.save(path, transparency=bytes([0, 128]))
    np.testing.assert_array_equal(read_image(path), np.array(picture.convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied_to_pixels_and_size(
    folder: Path, orientation: int
) -> None:
    path = folder / "images/train/s0_a.jpg"
    ramp = np.zeros((20, 30, 3), np.uint8)
    ramp[:, 15:] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(ramp).save(path, exif=exif, quality=95)
    shown = read_image(path)
    # Viewed, the bright half lies: right, left, left, right, then below or above.
    side = {1: "r", 2: "l", 3: "l", 4: "r", 5: "b", 6: "b", 7: "t", 8: "t"}[orientation]
    bright = {
        "r": shown[:, -9:], "l": shown[:, :9], "b": shown[-9:], "t": shown[:9]
    }[side]  # fmt: skip
    assert bright.min() > 200 and shown.mean() < 140
    source = open_folder("train", path=folder)
    if orientation >= 5:
        with pytest.raises(MessError, match="its image .* is 20x30"):
            source.validate()
    else:
        source.validate()


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("mode", ["L", "P"])
def test_label_ids_survive_any_bit_depth(tmp_path: Path, mode: str, bits: int) -> None:
    path = tmp_path / "mask.png"
    ids = np.arange(2**bits, dtype=np.uint8).reshape(1, -1)
    if mode == "P":
        picture = Image.fromarray(ids, mode="L").convert("P")
        picture.putpalette([7 * k % 256 for k in range(3 * 2**bits)])
        picture.putdata(ids.ravel().tolist())
        picture.save(path, bits=bits)
    else:
        _write_grey_png(path, ids, bits)
    np.testing.assert_array_equal(read_labels(path), ids)


def _write_grey_png(path: Path, ids: np.ndarray, bits: int) -> None:
    """A grey PNG of the given bit depth; Pillow itself writes 1 and 8 only."""
    import struct
    import zlib

    def chunk(name: bytes, data: bytes) -> bytes:
        check = zlib.crc32(name + data)
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", ids.shape[1], ids.shape[0], bits, 0, 0, 0, 0)
    rows = b""
    for row in ids:
        text = "".join(f"{value:0{bits}b}" for value in row)
        text += "0" * (-len(text) % 8)
        rows += b"\0" + bytes(int(text[k : k + 8], 2) for k in range(0, len(text), 8))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


# --- CamVid -------------------------------------------------------------------------


def test_camvid_opens_whole(shared_data: Path) -> None:
    source = open_folder("val", path=shared_data / "camvid", group="^([^_]+)_")
    assert len(source) == 101 and set(source.groups) == {"0016E5"}
    summary = source.validate()
    assert summary.pixels.shape == (11,) and (summary.pixels > 0).all()
    assert summary.largest == (360, 480)
    assert 0 < summary.void_pixels < 0.2 * summary.pixels.sum()

"""COCO in its official layout: what is mapped, drawn, left out and refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mess_tf.core.errors import MessError
from mess_tf.data.coco import CATEGORIES, open_coco
from mess_tf.data.coco_masks import paint, read_region
from mess_tf.data.dataset import open_dataset
from mess_tf.data.voc import CLASSES
from mess_tf.recipe.sections import Data

HEIGHT, WIDTH = 60, 80
PERSON, DOG, ZEBRA = 1, 18, 24  # zebra is none of VOC's
PERSON_LABEL, DOG_LABEL = CLASSES.index("person"), CLASSES.index("dog")


def box(top: int, left: int, height: int, width: int) -> list[list[float]]:
    """A polygon about whole pixels."""
    bottom, right = top + height, left + width
    return [[left, top, right, top, right, bottom, left, bottom]]


def runs_of(mask: np.ndarray) -> list[int]:
    """Run lengths of a mask down its columns, beginning with 0s."""
    flat = mask.T.ravel().astype(int)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat]))).tolist()
    return np.diff([0, *edges, flat.size]).tolist()


def crowd(mask: np.ndarray) -> dict[str, Any]:
    return {"size": list(mask.shape), "counts": runs_of(mask)}


def thing(image: int, category: int, shape: Any, area: float, **more: Any) -> Any:
    return {"image_id": image, "category_id": category, "segmentation": shape,
            "area": area, "iscrowd": int(isinstance(shape, dict)), **more}  # fmt: skip


CROWD = np.zeros((HEIGHT, WIDTH), bool)
CROWD[20:50, 10:50] = True
CROWD[30:35, 20:25] = False

# Image -> (size, objects). 139: two that overlap and one of no class of ours; 285: a
# crowd; 632: nothing of ours; 724: a dog too small to train on.
OBJECTS: list[Any] = [
    thing(139, PERSON, box(10, 10, 40, 30), 1200),
    thing(139, DOG, box(30, 30, 20, 40), 800),
    thing(139, ZEBRA, box(0, 0, 60, 80), 4800),
    thing(285, PERSON, crowd(CROWD), 1175),
    thing(632, ZEBRA, box(5, 5, 50, 50), 2500),
    thing(724, DOG, box(5, 5, 20, 50), 1000),
]
IDS = (139, 285, 632, 724)


def write_coco(root: Path, split: str) -> None:
    folder = root / split
    folder.mkdir(parents=True)
    images = []
    for number in reversed(IDS):
        name = f"{number:012d}.jpg"
        pixels = np.random.default_rng(number).integers(0, 256, (HEIGHT, WIDTH, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(folder / name)
        images.append(
            {"id": number, "file_name": name, "height": HEIGHT, "width": WIDTH}
        )
    named = [{"id": k, "name": name} for name, k in CATEGORIES.items()]
    table = {
        "images": images,
        "annotations": [{"id": 900 + k, **row} for k, row in enumerate(OBJECTS)],
        "categories": [*named, {"id": ZEBRA, "name": "zebra"}],
    }
    file = root / f"annotations/instances_{split}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(table))


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    write_coco(tmp_path, "val2017")
    return tmp_path


def change(coco: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    file = coco / "annotations/instances_val2017.json"
    table = json.loads(file.read_text())
    edit(table)
    file.write_text(json.dumps(table))


def test_the_mapping_is_that_of_the_reference_in_vocs_order() -> None:
    # Ids of METHOD 4.2: background first.
    expected = [5, 2, 16, 9, 44, 6, 3, 17, 62, 21, 67, 18, 19, 4, 1, 64, 20, 63, 7, 72]
    assert list(CATEGORIES.values()) == expected
    renamed = {"airplane": "aeroplane", "dining table": "diningtable",
               "motorcycle": "motorbike", "potted plant": "pottedplant",
               "couch": "sofa", "tv": "tvmonitor"}  # fmt: skip
    assert [renamed.get(name, name) for name in CATEGORIES] == list(CLASSES[1:])


def test_validation_images_are_all_kept_in_order_of_names(coco: Path) -> None:
    source = open_coco("val2017", path=coco)
    assert source.names == tuple(f"{number:012d}" for number in IDS)
    assert source.classes == CLASSES
    assert source.validate().images == 4


def test_overlaps_are_void_and_other_categories_background(coco: Path) -> None:
    labels = open_coco("val2017", path=coco).load(0).labels
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[10:50, 10:40] = PERSON_LABEL
    expected[30:50, 30:70] = DOG_LABEL
    expected[30:50, 30:40] = 255
    np.testing.assert_array_equal(labels, expected)
    assert open_coco("val2017", path=coco).load(2).labels.max() == 0


def test_a_crowd_is_its_class_pixel_by_pixel(coco: Path) -> None:
    labels = open_coco("val2017", path=coco).load(1).labels
    np.testing.assert_array_equal(labels, CROWD * np.uint8(PERSON_LABEL))


def test_training_drops_background_only_and_tiny_object_images(coco: Path) -> None:
    source = open_coco("val2017", path=coco, training=True)
    # 632 has nothing of ours, 724 exactly 1,000 pixels, 285 a crowd that counts.
    assert source.names == ("000000000139", "000000000285")


def test_a_recipe_filters_its_training_split_alone(tmp_path: Path) -> None:
    write_coco(tmp_path, "train2017")
    write_coco(tmp_path / "other", "val2017")
    data = Data(kind="coco", path=str(tmp_path), train="train2017", val="val2017")
    with pytest.raises(MessError, match=r"no .*val2017.json; splits .*: train2017\."):
        open_dataset(data)
    for file in (tmp_path / "other").rglob("*.*"):
        target = tmp_path / file.relative_to(tmp_path / "other")
        target.parent.mkdir(exist_ok=True)
        file.rename(target)
    with pytest.raises(MessError, match=r"2 images are in both 'train2017'"):
        open_dataset(data)
    for file in (tmp_path / "train2017").iterdir():
        file.rename(file.with_name(f"1{file.name[1:]}"))
    annotations = tmp_path / "annotations/instances_train2017.json"
    text = annotations.read_text().replace('"file_name": "0', '"file_name": "1')
    annotations.write_text(text)
    opened = open_dataset(data)
    assert len(opened.train) == 2 and len(opened.evaluation) == 4


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_grey_and_cmyk_photographs_are_colour(coco: Path, mode: str) -> None:
    Image.new(mode, (WIDTH, HEIGHT)).save(coco / "val2017/000000000139.jpg")
    assert open_coco("val2017", path=coco).load(0).image.shape == (HEIGHT, WIDTH, 3)


def test_a_turned_photograph_must_be_annotated_as_shown(coco: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = coco / "val2017/000000000139.jpg"
    Image.new("RGB", (HEIGHT, WIDTH)).save(photo, exif=exif)
    assert open_coco("val2017", path=coco).load(0).image.shape == (HEIGHT, WIDTH, 3)
    Image.new("RGB", (WIDTH, HEIGHT)).save(photo, exif=exif)
    source = open_coco("val2017", path=coco)
    for act in (source.validate, lambda: source.load(0)):
        with pytest.raises(MessError, match=r"139.jpg is 60x80 .* it is 80x60"):
            act()


def test_images_may_lie_in_a_folder_images(coco: Path) -> None:
    (coco / "images").mkdir()
    (coco / "val2017").rename(coco / "images/val2017")
    assert open_coco("val2017", path=coco).load(3).image.shape == (HEIGHT, WIDTH, 3)


# --- Outlines -------------------------------------------------------------------------

masks = st.integers(1, 9).flatmap(
    lambda height: st.integers(1, 9).flatmap(
        lambda width: st.lists(
            st.booleans(), min_size=height * width, max_size=height * width
        ).map(lambda bits: np.array(bits).reshape(height, width))
    )
)


@given(masks)
def test_run_lengths_plain_and_compressed_give_the_mask_back(mask: np.ndarray) -> None:
    from pycocotools import mask as coco_mask

    plain = crowd(mask)
    compressed = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    text = {"size": list(mask.shape), "counts": compressed["counts"].decode()}
    for shape in (plain, text):
        drawn = paint([read_region(7, shape, *mask.shape)], *mask.shape)
        np.testing.assert_array_equal(drawn, mask * np.uint8(7))


def test_long_runs_survive_compression() -> None:
    from pycocotools import mask as coco_mask

    mask = np.zeros((480, 640), np.uint8, order="F")
    mask[100:300, 17:601:3] = 1
    text = {"size": [480, 640], "counts": coco_mask.encode(mask)["counts"].decode()}
    np.testing.assert_array_equal(
        paint([read_region(1, text, 480, 640)], 480, 640), mask
    )


def test_an_object_in_several_pieces_is_their_union_and_overlaps_nothing() -> None:
    shape = box(0, 0, 6, 6) + box(4, 4, 6, 6) + [[1.0, 1.0, 2.0, 2.0]]
    drawn = paint([read_region(3, shape, 12, 12)], 12, 12)
    expected = np.zeros((12, 12), np.uint8)
    expected[0:6, 0:6] = expected[4:10, 4:10] = 3
    np.testing.assert_array_equal(drawn, expected)


BAD_SHAPES: dict[str, tuple[Any, str]] = {
    "none": (None, "neither polygons nor run lengths"),
    "odd polygon": ([[1, 2, 3, 4, 5, 6, 7]], "no list of x, y pairs"),
    "flat polygon": ([1, 2, 3, 4, 5, 6], "no list of x, y pairs"),
    "text in a polygon": ([[1, 2, "3", 4, 5, 6]], "entries that are no numbers"),
    "far polygon": ([[0, 0, 1e9, 0, 5, 5]], "far outside"),
    "nan": ([[0, 0, float("nan"), 0, 5, 5]], "far outside"),
    "other size": ({"size": [WIDTH, HEIGHT], "counts": [4800]}, r"not \[60, 80\]"),
    "too short": (
        {"size": [HEIGHT, WIDTH], "counts": [100, 7]},
        "107 pixels, not 4800",
    ),
    "too long": ({"size": [HEIGHT, WIDTH], "counts": [4800, 1]}, "4801 pixels"),
    "negative": ({"size": [HEIGHT, WIDTH], "counts": [4801, -1]}, "4800 pixels"),
    "fractions": ({"size": [HEIGHT, WIDTH], "counts": [4799.5]}, "whole numbers"),
    "no counts": ({"size": [HEIGHT, WIDTH]}, "whole numbers"),
    "cut text": ({"size": [HEIGHT, WIDTH], "counts": "P"}, "cut off"),
    "wrong text": ({"size": [HEIGHT, WIDTH], "counts": "0é"}, "the character 'é'"),
    "empty text": ({"size": [HEIGHT, WIDTH], "counts": ""}, "0 pixels"),
}


@pytest.mark.parametrize("case", BAD_SHAPES)
def test_a_bad_outline_is_named_by_file_and_annotation(coco: Path, case: str) -> None:
    shape, reason = BAD_SHAPES[case]
    change(coco, lambda table: table["annotations"][1].update(segmentation=shape))
    with pytest.raises(
        MessError, match=rf"annotation 901 in .*val2017.json .*: .*{reason}"
    ) as caught:
        open_coco("val2017", path=coco)
    assert "\n" not in str(caught.value)


BAD_TABLES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no images": (lambda t: t.pop("images"), r"no annotation file .*'images'"),
    "no size": (lambda t: t["images"][0].pop("height"), r"no annotation file"),
    "images a number": (lambda t: t.update(images=3), r"no annotation file"),
    "own categories": (
        lambda t: t["categories"][0].update(id=90),
        r"category 'airplane' the id 90; in MS COCO it is 5",
    ),
    "unknown image": (
        lambda t: t["annotations"][0].update(image_id=5),
        r"annotation 900 .*: 5 is unknown or missing",
    ),
    "no area": (
        lambda t: t["annotations"][0].pop("area"),
        r"annotation 900 .*: 'area' is unknown or missing",
    ),
    "twice": (
        lambda t: t["images"][0].update(file_name="000000000139.jpg"),
        r"lists the image 000000000139.jpg twice",
    ),
    "no such file": (
        lambda t: t["images"][0].update(file_name="7.jpg"),
        r"image .*val2017.7.jpg is missing",
    ),
    "out of the folder": (
        lambda t: t["images"][0].update(file_name="../7.jpg"),
        r"7.jpg is missing",
    ),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_a_bad_annotation_file_is_told_in_one_line(coco: Path, case: str) -> None:
    edit, message = BAD_TABLES[case]
    change(coco, edit)
    with pytest.raises(MessError, match=message) as caught:
        open_coco("val2017", path=coco)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", '{"images": [', "[]", "[" * 200_000])
def test_annotations_that_are_no_json_object_are_refused(coco: Path, text: str) -> None:
    (coco / "annotations/instances_val2017.json").write_text(text)
    with pytest.raises(MessError, match=r"annotations .*val2017.json"):
        open_coco("val2017", path=coco)


def test_a_missing_folder_is_named(coco: Path) -> None:
    (coco / "val2017").rename(coco / "elsewhere")
    with pytest.raises(MessError, match=r"no folder .*val2017 \(nor images/val2017\)"):
        open_coco("val2017", path=coco)

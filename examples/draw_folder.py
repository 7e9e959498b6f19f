"""Writes a small data set of drawn images as a plain folder, to try things on.

    python examples/draw_folder.py FOLDER [--train 600] [--val 120] [--size 128]

The folder looks as docs/data.md says: images/, masks/ and classes.txt.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2

from mess_tf.data.drawn import CLASSES, open_drawn


def draw_folder(folder: Path, counts: dict[str, int], size: int) -> None:
    """Writes JPEG images and PNG masks of every split.

    Args:
        folder: made if it does not exist.
        counts: images by split.
        size: of a side, in pixels.
    """
    for split, count in counts.items():
        source = open_drawn(split, count=count, size=size)
        for kind in ("images", "masks"):
            (folder / kind / split).mkdir(parents=True, exist_ok=True)
        for index, name in enumerate(source.names):
            sample = source.load(index)
            bgr = cv2.cvtColor(sample.image, cv2.COLOR_RGB2BGR)
            cv2.imwrite(str(folder / "images" / split / f"{name}.jpg"), bgr)
            cv2.imwrite(str(folder / "masks" / split / f"{name}.png"), sample.labels)
    (folder / "classes.txt").write_text("\n".join(CLASSES) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", type=int, default=600, help="images to train on")
    parser.add_argument("--val", type=int, default=120, help="images to validate on")
    parser.add_argument("--size", type=int, default=128, help="pixels of a side")
    given = parser.parse_args()
    draw_folder(given.folder, {"train": given.train, "val": given.val}, given.size)
    print(f"{given.train} + {given.val} images in {given.folder}")


if __name__ == "__main__":
    main()

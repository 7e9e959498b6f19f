"""A small folder data set that tests may break."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Split ``train`` of four images, 3 classes; s0_a.jpg and s0_b, s1_c, s1_d.png."""
    path = tmp_path / "set"
    rng = np.random.default_rng(0)
    for name in ("s0_a.jpg", "s0_b.png", "s1_c.png", "s1_d.png"):
        image = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
        labels = rng.integers(0, 3, (20, 30), dtype=np.uint8)
        labels[0, 0], labels[0, 1] = 3, 255
        for kind, pixels, file in (
            ("images", image, name),
            ("masks", labels, f"{name[:4]}.png"),
        ):
            target = path / kind / "train" / file
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(target)
    (path / "classes.txt").write_text("sky\nroad\ntree\n")
    return path

"""A network for tests in which it does not matter which one is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras


def little_network(folder: Path, exit_layers: list[str]) -> dict[str, Any]:
    """A recipe's section ``network`` with a network of four layers as backbone.

    A stage of training begins within a second; with a built-in backbone it takes ten.

    Args:
        folder: for the network's file.
        exit_layers: of ``one_relu`` (stride 2) to ``three_relu`` (stride 8).
    """
    image = keras.Input((64, 64, 3))
    x = image
    for name, filters in (("one", 8), ("two", 16), ("three", 16), ("four", 24)):
        x = keras.layers.Conv2D(filters, 3, 2, "same", use_bias=False, name=name)(x)
        x = keras.layers.BatchNormalization(name=f"{name}_bn")(x)
        x = keras.layers.ReLU(name=f"{name}_relu")(x)
    keras.Model(image, x).save(folder / "little.keras")
    return {
        "backbone": str(folder / "little.keras"),
        "weights": "own",
        "mean": [127.5] * 3,
        "std": [127.5] * 3,
        "height": 64,
        "width": 64,
        "exit_layers": exit_layers,
        "decoder_width": 8,
        "skip_width": 8,
    }

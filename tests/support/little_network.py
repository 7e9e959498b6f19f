"""A network for tests in which it does not matter which one is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras

_LAYERS = (
    ("one", 8, 2),
    ("two", 16, 2),
    ("three", 16, 2),
    ("four", 24, 2),
    ("five", 24, 1),
)


def little_model(size: int) -> keras.Model:
    """Five convolutions, the first four of stride 2, for square images."""
    image = keras.Input((size, size, 3))
    x = image
    for name, filters, stride in _LAYERS:
        x = keras.layers.Conv2D(filters, 3, stride, "same", use_bias=False, name=name)(
            x
        )
        x = keras.layers.BatchNormalization(name=f"{name}_bn")(x)
        x = keras.layers.ReLU(name=f"{name}_relu")(x)
    return keras.Model(image, x)


def little_network(folder: Path, exit_layers: list[str]) -> dict[str, Any]:
    """A recipe's section ``network`` with a network of five layers as backbone.

    A stage of training begins within a second; with a built-in backbone it takes ten.

    Args:
        folder: for the network's file.
        exit_layers: of ``two_relu`` (stride 4) to ``four_relu`` (stride 16).
    """
    little_model(64).save(folder / "little.keras")
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

"""A copy of a trained run whose network int8 handles badly, and computes the same.

Some channels behind MobileNetV2's first block are stretched, and the one layer that
reads them divides them again: the float function stays, but one scale has to serve
values of very different size. What quantisation-aware training can give back shows
there, where conversion after training fails; see `docs/quantisation.md`.

    python benchmarks/hard_to_round.py runs/a runs/hard --factor 100
    mess compile runs/hard && mess evaluate runs/hard && mess profile runs/hard
    mess search runs/hard --precision float32
    mess quantise runs/hard --precision float32
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from mess_tf.core.tensorflow_environment import set_tensorflow_defaults

set_tensorflow_defaults()

import numpy as np

from mess_tf.core.errors import MessError
from mess_tf.models.supernet import Supernet
from mess_tf.runs import RECIPE, Run

NORM, READER = "expanded_conv_project_BN", "block_1_expand"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("copy", type=Path, help="a folder that does not exist yet")
    parser.add_argument("--factor", type=float, default=100.0)
    parser.add_argument("--channels", type=int, default=2)
    arguments = parser.parse_args()
    supernet = Supernet.load(Run.open(arguments.run).folder)
    if supernet.spec.backbone != "mobilenet_v2":
        raise MessError(
            f"The backbone is {supernet.spec.backbone}; this is for mobilenet_v2."
        )
    stretch(supernet, arguments.factor, arguments.channels)
    arguments.copy.mkdir(parents=True)
    shutil.copy(arguments.run / RECIPE, arguments.copy / RECIPE)
    supernet.save(arguments.copy)


def stretch(supernet: Supernet, factor: float, channels: int) -> None:
    """Multiplies some channels and divides them where they are read."""
    norm, reader = (supernet.model.get_layer(name) for name in (NORM, READER))
    gamma, beta, mean, variance = norm.get_weights()
    chosen = np.random.default_rng(1).permutation(len(gamma))[:channels]
    factors = np.ones(len(gamma), np.float32)
    factors[chosen] = factor
    norm.set_weights([gamma * factors, beta * factors, mean, variance])
    (kernel,) = reader.get_weights()
    reader.set_weights([kernel / factors[:, None]])


if __name__ == "__main__":
    main()

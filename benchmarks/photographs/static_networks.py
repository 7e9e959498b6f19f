"""What a smaller picture or a narrower network saves: int8 latencies on a device.

    python benchmarks/photographs/static_networks.py NETWORK.keras... --sizes 256 192

Each NETWORK (float, one square input) is built anew at each size, with its weights,
converted to int8 (ranges of noise: they do not change latencies) and measured with the
others in turns. A resize inside that makes the grid of the smallest map
out of a pooled vector, as DeepLab's image pooling has, gets the new size.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from mess_tf.core.tensorflow_environment import set_tensorflow_defaults

set_tensorflow_defaults()

import keras
import numpy as np

from android_bench.profile import profile
from android_bench.records import MeasureSettings
from mess_tf.converting.calibrate import Calibration
from mess_tf.converting.convert import convert_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", type=Path, nargs="+")
    parser.add_argument("--sizes", type=int, nargs="+", required=True)
    parser.add_argument("--device", default="host")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--preset", default="quick", choices=("quick", "report"))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for path in given.networks:
            model = keras.saving.load_model(path, compile=False)
            for size in given.sizes:
                name = f"{path.stem} {size}"
                files[name] = Path(folder, f"{path.stem}_{size}.tflite")
                files[name].write_bytes(int8(at_size(model, size), size))
        (run,) = profile(
            files,
            (given.device,),
            store=Path(folder, "store.sqlite"),
            settings=MeasureSettings.preset(given.preset, given.threads),
        )
    print(f"{run.info.model if run.info else run.name}, {given.threads} thread(s)")
    first = run.measurements[0].p50_ms
    for row in run.measurements:
        print(f"{row.name:40s} {row.p50_ms:7.2f} ms  {first / row.p50_ms:.2f}x")


def at_size(model: keras.Model, size: int) -> keras.Model:
    """The same network and weights with a square input of ``size`` pixels.

    Its final enlargement is left out: all networks' logits are enlarged alike.
    """
    if isinstance(model.layers[-1], keras.layers.UpSampling2D):
        model = keras.Model(model.input, model.layers[-1].input)
    before = model.input_shape[1]
    config = model.get_config()
    for layer in config["layers"]:
        settings = layer["config"]
        if layer["class_name"] == "InputLayer":
            settings["batch_shape"] = [None, size, size, 3]
        elif layer["class_name"] == "UpSampling2D":
            stride = before // settings["size"][0]
            settings["size"] = [size // stride, size // stride]
    built = keras.Model.from_config(config)
    built.set_weights(model.get_weights())
    return built


def int8(model: keras.Model, size: int) -> bytes:
    noise = np.random.default_rng(0).normal(size=(1, size, size, 3)).astype(np.float32)
    return convert_model(model, ["image"], ["logits"], "int8", Calibration([[noise]]))


if __name__ == "__main__":
    main()

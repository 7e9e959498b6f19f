"""Training with oneDNN's kernels against TensorFlow's own, side by side on a machine.

Which of them TensorFlow uses is decided by the processor's make unless the environment
variable ``TF_ENABLE_ONEDNN_OPTS`` says so; the project sets it to 1
(``mess_tf.core.tensorflow_environment``). Both settings take turns, a fresh process
each; told are the processor seconds (user and system) of one training step.

    python benchmarks/bench_onednn.py [--batch 4] [--steps 6] [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

VARIABLE = "TF_ENABLE_ONEDNN_OPTS"
_STEP = """
import json, sys, time
import keras, numpy as np
height, width, batch, steps = map(int, sys.argv[1:])
keras.utils.set_random_seed(0)
model = keras.applications.MobileNetV2(
    input_shape=(height, width, 3), include_top=False, weights=None
)
head = keras.layers.Conv2D(12, 1)(model.output)
model = keras.Model(model.input, head)
model.compile(
    "sgd",
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    jit_compile=False,
)
grid = model.output_shape[1:3]
rng = np.random.default_rng(0)
x = rng.normal(size=(batch, height, width, 3)).astype("float32")
y = rng.integers(0, 12, (batch, *grid))
for _ in range(2):
    model.train_on_batch(x, y)
begun = time.process_time()
for _ in range(steps):
    model.train_on_batch(x, y)
print(json.dumps((time.process_time() - begun) / steps))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--height", type=int, default=240, metavar="PIXELS")
    parser.add_argument("--width", type=int, default=320, metavar="PIXELS")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    sizes = (options.height, options.width, options.batch, options.steps)
    seconds: dict[str, list[float]] = {"0": [], "1": []}
    for _ in range(options.rounds):
        for setting, values in seconds.items():
            values.append(step_seconds(setting, sizes))
    own, onednn = (statistics.median(seconds[setting]) for setting in ("0", "1"))
    print(
        f"{processor()}; MobileNetV2, {options.batch}x{options.height}x{options.width}"
    )
    print(f"TensorFlow's kernels  {own:.3f} processor seconds a step")
    print(f"oneDNN's kernels      {onednn:.3f}  ({own / onednn:.2f}x as fast)")


def step_seconds(setting: str, sizes: tuple[int, ...]) -> float:
    """Processor seconds of one training step in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-c", _STEP, *map(str, sizes)],
        env={**os.environ, VARIABLE: setting, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(json.loads(done.stdout.splitlines()[-1]))


def processor() -> str:
    """The processor's name, as Linux has it."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


if __name__ == "__main__":
    main()

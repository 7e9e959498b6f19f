"""How long does a full supernet take to compile, and is every piece right?

MobileNetV2 at 240x320, output stride 16, five early exits with all 56 heads each and
the final one, random weights. Prints seconds (of the clock, and of processor time,
which a busy machine distorts less), peak memory, and the largest difference between a
piece at the end of its chain and its Keras layers.

    python benchmarks/bench_compile.py --precision int8 --images 32
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from mess_tf.core.tensorflow_environment import set_tensorflow_defaults

SIZE = (240, 320)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--precision", choices=["float32", "int8"], default="float32")
    parser.add_argument("--images", type=int, default=32, help="calibration images")
    parser.add_argument("--compare", type=int, default=1, help="images for comparing")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    set_tensorflow_defaults()

    from mess_tf.compiling.pieces import compile_supernet
    from mess_tf.compiling.verify import compare_pieces
    from mess_tf.core.supernet_spec import EXTRA_BLOCKS, KINDS, REDUCTIONS, HeadSpec
    from mess_tf.models.supernet import build_supernet, design_supernet

    heads = [
        HeadSpec(kind, reduction, blocks, rapid)
        for kind in KINDS
        for reduction in REDUCTIONS
        for blocks in EXTRA_BLOCKS
        for rapid in ([False, True] if blocks else [False])
    ]
    spec = design_supernet(
        "mobilenet_v2",
        [f"class_{number}" for number in range(11)],
        image_size=SIZE,
        final_heads=[HeadSpec("dlb")],
        early_heads=heads,
    )
    start = time.perf_counter()
    supernet = build_supernet(spec)
    print(f"build in Keras          {time.perf_counter() - start:8.1f} s", flush=True)
    rng = np.random.default_rng(options.seed)
    images = [
        rng.normal(size=(*SIZE, 3)).clip(-1, 1).astype(np.float32)
        for _ in range(max(options.images, options.compare))
    ]
    with tempfile.TemporaryDirectory() as folder:
        start, start_cpu = time.perf_counter(), time.process_time()
        pieces = compile_supernet(
            supernet,
            Path(folder) / options.precision,
            options.precision,
            images[: options.images],
            ["mean", "eq7", "eq7+9"],
        )
        seconds = time.perf_counter() - start
        cpu_seconds = time.process_time() - start_cpu
        peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(
            f"{len(pieces.pieces)} pieces, {options.precision:8}   {seconds:8.1f} s",
            flush=True,
        )
        print(f"processor time          {cpu_seconds:8.1f} s")
        print(f"peak memory             {peak_gib:8.2f} GiB")
        differences = compare_pieces(pieces, supernet, images[: options.compare])
        worst = max(differences, key=lambda difference: difference.relative)
        print(
            f"largest difference to Keras over {len(differences)} heads:"
            f" {worst.largest:g} of {worst.magnitude:g}"
            f" (head {worst.head} of exit {worst.exit})"
        )


if __name__ == "__main__":
    main()

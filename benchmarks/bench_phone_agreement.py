"""Do both ways to a phone give the figures that this computer gives itself?

    python benchmarks/bench_phone_agreement.py [MODEL.tflite or folder] [--rounds 9]

The phone double runs on this computer and times the pushed model with the same LiteRT,
so the host, the double through adb_shell and the double through Google's adb server
must agree but for noise: what differs is only how the figure travels. They take turns
round by round, in an order drawn anew; printed is the ratio of each way to the host as
the median of the per-round ratios with its 95 % interval. Without arguments five small
networks of our own are measured.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

from android_bench.adb.reach import find
from android_bench.compare import median_interval
from android_bench.device import Device
from android_bench.host.device import HostDevice
from android_bench.phones.device import AdbDevice
from android_bench.records import Failure, MeasureSettings, ModelFile

sys.path.append(str(Path(__file__).parents[1]))

from tests.phone_double import Adb, PhoneDouble, convolutions, write_tool  # noqa: E402

OWN = ((2, 16, 8), (4, 32, 16), (8, 32, 32), (8, 64, 32), (16, 64, 64))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", type=Path, nargs="*")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    settings = dataclasses.replace(
        MeasureSettings.preset("quick", args.threads), affinity="none"
    )
    with tempfile.TemporaryDirectory() as folder, PhoneDouble() as phone:
        home = Path(folder)
        os.environ["HOME"] = folder
        models = own_models(home) if not args.models else read_models(args.models)
        tool = write_tool(home / "benchmark_model")
        with Adb(home / "adb") as adb:
            adb.connect(phone.serial)
            os.environ["ANDROID_ADB_SERVER_PORT"] = str(adb.port)
            with (
                HostDevice() as host,
                AdbDevice(find(f"tcp:{phone.serial}"), tool) as direct,
                AdbDevice(find(f"server:{phone.serial}"), tool) as served,
            ):
                devices: dict[str, Device] = {
                    "host": host,
                    "adb_shell": direct,
                    "adb server": served,
                }
                taken = measure(devices, models, settings, args.rounds)
    report(taken, [model.name for model in models])


def own_models(folder: Path) -> list[ModelFile]:
    """Networks of tens of microseconds to tens of milliseconds."""
    found = []
    for count, size, channels in OWN:
        path = folder / f"conv{count}_{size}x{size}x{channels}.tflite"
        path.write_bytes(convolutions(count, size, channels))
        found.append(ModelFile.read(path))
    return found


def read_models(paths: list[Path]) -> list[ModelFile]:
    """Files, and folders with all that is below them."""
    files = [f for p in paths for f in ([p] if p.is_file() else p.rglob("*.tflite"))]
    # Pieces of several precisions have the same names: their folder tells them apart.
    named = [ModelFile.read(f, f"{f.parent.name}/{f.stem}") for f in sorted(files)]
    return list({model.sha256: model for model in named}.values())


def measure(
    devices: dict[str, Device],
    models: list[ModelFile],
    settings: MeasureSettings,
    rounds: int,
) -> dict[tuple[str, str], list[float]]:
    """Round medians in microseconds by (way, model)."""
    rng = np.random.default_rng(0)
    ways = list(devices)
    taken: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        for number in rng.permutation(len(ways)):
            way = ways[number]
            for model, outcome in devices[way].benchmark(models, settings):
                if isinstance(outcome, Failure):
                    raise SystemExit(f"{model.name} failed on {way}: {outcome.message}")
                taken.setdefault((way, model.name), []).append(outcome.median_us)
    return taken


def report(taken: dict[tuple[str, str], list[float]], names: list[str]) -> None:
    rounds = len(taken["host", names[0]])
    print(f"{rounds} rounds; ratio to the host: median [95 % interval]")
    print(f"{'model':32} {'host us':>10} {'adb_shell':>22} {'adb server':>22}")
    ratios: dict[str, list[float]] = {"adb_shell": [], "adb server": []}
    for name in names:
        host = np.array(taken["host", name])
        cells = []
        for way, medians in ratios.items():
            ratio = median_interval(np.array(taken[way, name]) / host)
            medians.append(ratio.median)
            cells.append(f"{ratio.median:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]")
        print(f"{name[:32]:32} {np.median(host):10.1f} {cells[0]:>22} {cells[1]:>22}")
    for way, medians in ratios.items():
        print(
            f"{way}: median of {len(medians)} models {np.median(medians):.3f}, from"
            f" {min(medians):.3f} to {max(medians):.3f}"
        )


if __name__ == "__main__":
    main()

"""What several commands need: measured latencies, and an exported model's inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from android_bench.devices import open_device
from android_bench.records import MeasureSettings
from android_bench.store import Store
from mess_tf.compiling.latency_composition import compose_latencies
from mess_tf.core.errors import MessError
from mess_tf.core.piece_names import WHOLE_PROBE, head_name
from mess_tf.core.pieces import Pieces, TensorInfo
from mess_tf.core.precisions import Precision
from mess_tf.core.supernet_spec import Preprocessing, SupernetSpec
from mess_tf.runs import Run

Unmeasured = Literal["refuse", "predict", "leave out"]


@dataclass(frozen=True)
class Latencies:
    """What a run's store holds for one device and precision.

    Attributes:
        by_piece: milliseconds by piece name: medians, corrected for what putting
            pieces together costs (``mess_tf.compiling.latency_composition``).
        whole_ms: median of the final network in one file, a yardstick for later.
        device: the device's description as a dict.
        threads: CPU threads they were measured with.
        preset: measuring preset.
        conditions: in which the final network in one file was measured.
        predicted: by name of a head that was not measured but predicted, between which
            milliseconds its latency is likely to be.
    """

    by_piece: dict[str, float]
    whole_ms: float
    device: dict[str, Any]
    threads: int
    preset: str
    conditions: dict[str, Any]
    predicted: Mapping[str, tuple[float, float]] = field(default_factory=dict)


def measured_latencies(
    run: Run,
    precision: Precision,
    device: str | None = None,
    threads: int | None = None,
    unmeasured_heads: Unmeasured = "refuse",
) -> Latencies:
    """Looks the pieces' latencies up; the device itself is only asked who it is.

    Args:
        unmeasured_heads: what becomes of heads that are not measured. What every
            network needs, and what putting pieces together costs, is never predicted.

    Raises:
        MessError: a piece is not measured yet on this device with these settings.
        BenchError: no such device, or no store; too few pieces to predict from.
    """
    import dataclasses

    settings = run.recipe.profile
    name = device or settings.device
    count = threads or settings.threads
    pieces = Pieces.load(run.pieces(precision))
    spec = pieces.part_of(SupernetSpec.load(run.supernet_structure))
    with open_device(name) as reached:
        info = reached.describe()
    wanted = MeasureSettings.preset(settings.preset, count)
    together = compared_with_probes(pieces, spec)
    with Store(run.profiles, must_exist=True) as store:
        found = store.latencies_ms(
            info.fingerprint, wanted, [piece.sha256 for piece in pieces.pieces]
        )
        rows = {
            piece.name: store.get(piece.sha256, info.fingerprint, wanted)
            for piece in pieces.pieces
            if piece.name in together
        }
        by_piece = {p.name: found[p.sha256] for p in pieces.pieces if p.sha256 in found}
        missing = [piece.name for piece in pieces.pieces if piece.name not in by_piece]
        likely: dict[str, Any] = {}
        if unmeasured_heads != "refuse":
            needed = always_measured(pieces, spec)
            missing, heads = [n for n in missing if n in needed], missing
            if unmeasured_heads == "predict" and heads and not missing:
                from android_bench.latency_model.learn import predict_files

                likely, _ = predict_files(
                    predictable(pieces),
                    store,
                    info.fingerprint,
                    wanted,
                    keep=run.search(name, precision) / "latency_model.json",
                )
                by_piece |= {n: row.latency_ms for n, row in likely.items()}
    if missing:
        raise MessError(
            f"{len(missing)} of {len(pieces.pieces)} {precision} pieces are not"
            f" measured on {name} with {count} threads (e.g. {missing[0]}). Run `mess"
            f" profile {run.folder} --device {name} --threads {count}` first."
        )
    rounds_ms = {
        name: [taken.median_us / 1000 for taken in row.rounds]
        for name, row in rows.items()
        if row is not None
    }
    corrected = compose_latencies(by_piece, spec, rounds_ms)
    return Latencies(
        by_piece=corrected,
        whole_ms=by_piece[WHOLE_PROBE],
        device=dataclasses.asdict(info),
        threads=count,
        preset=settings.preset,
        conditions=_conditions(rows[WHOLE_PROBE]),
        predicted={
            name: (
                row.low_ms * corrected[name] / row.latency_ms,
                row.high_ms * corrected[name] / row.latency_ms,
            )
            for name, row in likely.items()
        },
    )


def predictable(pieces: Pieces) -> dict[str, Path]:
    """Files by piece name that a latency model learns from and predicts."""
    kinds = ("segment", "head")
    return {p.name: pieces.path(p.name) for p in pieces.pieces if p.kind in kinds}


def compared_with_probes(pieces: Pieces, spec: SupernetSpec) -> set[str]:
    """Names of the probes and of the pieces whose sum one of them is compared with.

    They are measured in turns: a machine's speed may differ by 5 % from one block of
    models to the next, as much as putting pieces together costs.
    """
    kinds = ("probe", "segment", "output")
    others = {piece.name for piece in pieces.pieces if piece.kind in kinds}
    return others | _heads_in_probes(spec)


def always_measured(pieces: Pieces, spec: SupernetSpec) -> set[str]:
    """Names of the pieces that are never predicted.

    All but heads; of these the final one and the first of every exit, which the probes
    contain (``mess_tf.compiling.latency_composition``).
    """
    others = {piece.name for piece in pieces.pieces if piece.kind != "head"}
    return others | _heads_in_probes(spec)


def _heads_in_probes(spec: SupernetSpec) -> set[str]:
    last = spec.exit_points[-1].index
    return {head_name(last, spec.final_head.id)} | {
        head_name(point.index, heads[0].id)
        for point, heads in zip(spec.exit_points[:-1], spec.heads, strict=False)
        if heads
    }


def _conditions(measurement: Any) -> dict[str, Any]:
    """Time, tool and the device's state over a measurement's rounds, as plain values.

    Of numbers the least and the largest; None is what the device does not tell.
    """
    rounds = [taken.conditions for taken in measurement.rounds]
    reported: dict[str, Any] = {
        "time": measurement.time,
        "tool": measurement.tool_key,
        "flags": list(measurement.flags),
    }
    for key in ("temperature_c", "battery_percent", "load", "foreign_load"):
        values = [getattr(r, key) for r in rounds if getattr(r, key) is not None]
        reported[key] = [min(values), max(values)] if values else None
    for key in ("throttled", "charging", "governor"):
        states = {getattr(r, key) for r in rounds} - {None}
        reported[key] = sorted(states)[-1] if states else None
    return reported


def network_input(
    picture: np.ndarray, image: TensorInfo, preprocessing: Preprocessing
) -> np.ndarray:
    """A picture of any size as an exported file takes it.

    Args:
        picture: uint8 array of shape (h, w, 3), RGB.
        image: the file's input.
        preprocessing: from the file's card.

    Returns:
        Array of shape (H, W, 3): uint8 pixels, or normalised float32.
    """
    from mess_tf.data.augment import evaluation_image

    _, height, width, _ = image.shape
    if image.dtype != "uint8":
        return evaluation_image(picture, height, width, preprocessing)
    as_it_is = Preprocessing((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    return evaluation_image(picture, height, width, as_it_is).astype(np.uint8)


def tensor_of(row: dict[str, Any]) -> TensorInfo:
    """A border of a file as its card tells it."""
    return TensorInfo(
        row["name"], tuple(row["shape"]), row["dtype"], row["scale"], row["zero_point"]
    )

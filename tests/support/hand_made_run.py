"""A run folder made by hand, for tests of what `profile` and `search` make of one.

Its latencies follow a law; nothing is trained, converted or measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from android_bench.devices import open_device
from android_bench.latency_model.features import operators_of
from android_bench.records import (
    Conditions,
    Measurement,
    MeasureSettings,
    ModelFile,
    Round,
)
from android_bench.store import Store
from mess_tf.core.pieces import Piece, PieceKind, Pieces
from mess_tf.core.statistics import Statistics
from mess_tf.core.supernet_spec import (
    EXTRA_BLOCKS,
    KINDS,
    REDUCTIONS,
    ExitPoint,
    HeadSpec,
    Preprocessing,
    SupernetSpec,
)
from mess_tf.recipe.recipe import Recipe
from mess_tf.runs import Run
from tests.phone_double import convolutions

HEADS = tuple(
    HeadSpec(kind, reduction, blocks, rapid)
    for kind in KINDS
    for reduction in REDUCTIONS
    for blocks in EXTRA_BLOCKS
    for rapid in ((False, True) if blocks else (False,))
)
CONDITIONS = Conditions("2026-01-02T03:04:05.000+00:00")


def law_us(path: Path) -> float:
    return sum(2 + o.macs / 1e4 + o.read_bytes / 1e4 for o in operators_of(path))


def chain(head: HeadSpec) -> bytes:
    """The more blocks, the longer; the more reduced, the narrower."""
    count = 1 + head.blocks + 2 * head.rapid_dilation + 3 * (head.kind == "dlb")
    return convolutions(count, size=8, channels=32 // head.reduction)


def make_run(folder: Path) -> Run:
    """Exit 1 has 56 heads, of which one is to be right on all images."""
    run = Run.create(folder, Recipe.from_table({"data": {"kind": "drawn"}}))
    spec = SupernetSpec(
        backbone="tiny",
        backbone_options={},
        output_stride=4,
        image_height=32,
        image_width=32,
        classes=("a", "b"),
        ignore_label=255,
        exit_points=(ExitPoint(1, "x", 4, 8, 1), ExitPoint(2, "y", 4, 8, 2)),
        heads=(HEADS, (HeadSpec(),)),
        output_stride_of_logits=4,
        head_options={},
        preprocessing=Preprocessing(),
    )
    spec.save(run.supernet_structure)
    pieces = []

    def piece(name: str, kind: PieceKind, content: bytes) -> None:
        folder = run.pieces("int8")
        folder.mkdir(parents=True, exist_ok=True)
        # A name in the file: equal pieces would be one measurement.
        (folder / f"{name}.tflite").write_bytes(content + name.encode())
        sha256 = ModelFile.read(folder / f"{name}.tflite").sha256
        pieces.append(Piece(name, kind, f"{name}.tflite", sha256, (), (), 0, 0))

    for number in (1, 2):
        piece(f"segment_{number}", "segment", convolutions(3 + number, 16, 16))
    for head in HEADS:
        piece(f"head_1_{head.id}", "head", chain(head))
    piece("head_2_fcn_r1_b0", "head", chain(HeadSpec()))
    piece("decision_mean_8x8", "decision", convolutions(1, 4, 4))
    for name, count in (("probe_whole", 10), ("probe_branch_1", 12)):
        piece(name, "probe", convolutions(count, 16, 16))
    Pieces("int8", tuple(pieces), folder=run.pieces("int8")).save()
    return run


def measure(
    run: Run,
    names: set[str],
    threads: int = 1,
    rounds_us: Mapping[str, Sequence[float]] | None = None,
) -> None:
    """Stores what the law says of pieces, or rounds given by name, as the host's."""
    with open_device("host") as device:
        info = device.describe()
    pieces = Pieces.load(run.pieces("int8"))
    with Store(run.profiles) as store:
        store.put_device(info)
        for name in names:
            us = law_us(pieces.path(name)) / threads
            rounds = (rounds_us or {}).get(name, (us, us))
            row = Measurement(
                name=f"int8/{name}",
                sha256=pieces[name].sha256,
                fingerprint=info.fingerprint,
                settings_key=MeasureSettings.preset("quick", threads).key,
                tool_key="tool 1",
                rounds=tuple(Round((r, r), CONDITIONS, runs=2) for r in rounds),
                time=CONDITIONS.time,
            )
            store.put(row)


def statistics_with(run: Run, right: str) -> None:
    """On 6 images all heads miss half of the pixels, but one."""
    names = SupernetSpec.load(run.supernet_structure).head_names()
    true = np.full((6, 2), 8)
    both = np.full((6, len(names), 2), 4)
    both[:, names.index((1, right))] = 8
    Statistics(
        images=tuple("abcdef"),
        groups=("one", "one", "two", "two", "three", "three"),
        parts=("calibration",) * 4 + ("report",) * 2,
        heads=names,
        classes=("a", "b"),
        true_area=true,
        predicted_area=np.full(both.shape, 8),
        intersection=both,
        confidence={"mean": np.full((6, len(names)), 0.5, np.float32)},
        source="drawn",
    ).save(run.statistics("int8"))

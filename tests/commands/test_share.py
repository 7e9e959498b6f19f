"""Some pieces measured, the rest predicted: what `profile --share` and `search` make of
it. The run folder is made by hand, the latencies follow a law, nothing is measured.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from android_bench.errors import BenchError
from android_bench.latency_model.features import operators_of
from android_bench.latency_model.learn import predict_files
from android_bench.records import Conditions, Measurement, MeasureSettings, Round
from android_bench.store import Store
from mess_tf.commands import export as export_command
from mess_tf.commands.profile import profile
from mess_tf.commands.search import render, search
from mess_tf.commands.share import predictions, telling_pieces
from mess_tf.commands.shared import (
    compared_with_probes,
    measured_latencies,
    predictable,
)
from mess_tf.doors import open_door
from mess_tf.errors import MessError, UsageError
from mess_tf.recipe import Recipe
from mess_tf.records import (
    EXTRA_BLOCKS,
    KINDS,
    REDUCTIONS,
    ExitPoint,
    HeadSpec,
    Piece,
    PieceKind,
    Pieces,
    Preprocessing,
    Statistics,
    SupernetSpec,
)
from mess_tf.runs import Run
from search.result import load_results

# The package beside this folder (importlib mode puts nothing on the path).
sys.path.append(str(Path(__file__).parents[1]))

from phone_double.tiny_model import convolutions  # noqa: E402

HEADS = tuple(
    HeadSpec(kind, reduction, blocks, rapid)
    for kind in KINDS
    for reduction in REDUCTIONS
    for blocks in EXTRA_BLOCKS
    for rapid in ((False, True) if blocks else (False,))
)
ALWAYS = {
    *("segment_1", "segment_2", "head_1_fcn_r1_b0", "head_2_fcn_r1_b0"),
    *("decision_mean_8x8", "probe_whole", "probe_branch_1"),
}
CONDITIONS = Conditions("2026-01-02T03:04:05.000+00:00")


def law_us(path: Path) -> float:
    return sum(2 + o.macs / 1e4 + o.read_bytes / 1e4 for o in operators_of(path))


def chain(head: HeadSpec) -> bytes:
    """The more blocks, the longer; the more reduced, the narrower."""
    count = 1 + head.blocks + 2 * head.rapid_dilation + 3 * (head.kind == "dlb")
    return convolutions(count, size=8, channels=32 // head.reduction)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Exit 1 has 56 heads, of which one is to be right on all images."""
    run = Run.create(tmp_path / "run", Recipe.from_table({"data": {"kind": "drawn"}}))
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
        sha256 = open_door("model_file").read(folder / f"{name}.tflite").sha256
        pieces.append(Piece(name, kind, f"{name}.tflite", sha256, (), (), 0, 0))

    for number in (1, 2):
        piece(f"segment_{number}", "segment", convolutions(3 + number, 16, 16))
    for head in HEADS:
        piece(f"head_1_{head.id}", "head", chain(head))
    piece("head_2_fcn_r1_b0", "head", chain(HeadSpec()))
    piece("decision_mean_8x8", "decision", convolutions(1, 4, 4))
    for name, count in (("probe_whole", 10), ("probe_branch_1", 12)):
        piece(name, "probe", convolutions(count, 16, 16))
    Pieces("int8", tuple(pieces), run.pieces("int8")).save()
    return run


def measure(run: Run, names: set[str], threads: int = 1) -> None:
    """Stores what the law says of pieces, as if the host had been asked."""
    with open_door("open_device")("host") as device:
        info = device.describe()
    pieces = Pieces.load(run.pieces("int8"))
    with Store(run.profiles) as store:
        store.put_device(info)
        for name in names:
            us = law_us(pieces.path(name)) / threads
            row = Measurement(
                name=f"int8/{name}",
                sha256=pieces[name].sha256,
                fingerprint=info.fingerprint,
                settings_key=MeasureSettings.preset("quick", threads).key,
                tool_key="tool 1",
                rounds=(Round((us, us), CONDITIONS, runs=2),) * 2,
                time=CONDITIONS.time,
            )
            store.put(row)


def telling(run: Run, share: float) -> set[str]:
    spec = SupernetSpec.load(run.supernet_structure)
    return telling_pieces(run, Pieces.load(run.pieces("int8")), spec, share)


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


def test_what_cannot_be_predicted_is_always_measured(run: Run) -> None:
    chosen = telling(run, 0.4)
    assert ALWAYS < chosen
    assert len(chosen) == 25  # two fifths of 62, rounded up


def test_probes_are_measured_in_turns_with_what_they_are_compared_with(
    run: Run,
) -> None:
    pieces = Pieces.load(run.pieces("int8"))
    spec = SupernetSpec.load(run.supernet_structure)
    assert compared_with_probes(pieces, spec) == {
        *("segment_1", "segment_2", "head_2_fcn_r1_b0"),
        *("probe_whole", "probe_branch_1"),
    }


def test_a_search_says_what_was_predicted_and_asks_for_its_measurement(
    run: Run,
) -> None:
    pieces = Pieces.load(run.pieces("int8"))
    chosen = telling(run, 0.5)
    measure(run, chosen)
    right = next(h.id for h in reversed(HEADS) if f"head_1_{h.id}" not in chosen)
    name = f"head_1_{right}"
    statistics_with(run, right)
    with pytest.raises(MessError, match="are not measured"):
        search(run.folder, min_miou=0.9)

    result = search(run.folder, min_miou=0.9, predicted=True)
    (row,) = result["devices"][0]["results"]
    assert list(row["predicted"]) == [name]
    low, high = row["predicted"][name]
    by_piece = measured_latencies(run, "int8", unmeasured_heads="predict").by_piece
    assert low < by_piece[name] < high
    whole = by_piece["segment_1"] / (law_us(pieces.path("segment_1")) / 1000)
    assert by_piece[name] == pytest.approx(
        whole * law_us(pieces.path(name)) / 1000, rel=0.1
    )
    assert f"PREDICTED, not measured: {name}" in render(result)
    folder = run.search("host", "int8")
    assert (folder / "latency_model.json").is_file()
    assert load_results(folder / "chosen.json")[0].predicted == {name: (low, high)}
    source = export_command.Source(run, None, pieces, None, None, [])  # type: ignore[arg-type]
    with pytest.raises(MessError, match=name):
        export_command._must_be_measured(
            source, load_results(folder / "chosen.json")[0]
        )

    again = telling(run, 0.5)
    assert name in again
    measure(run, again - chosen)
    (row,) = search(run.folder, min_miou=0.9, predicted=True)["devices"][0]["results"]
    assert row["predicted"] == {}


def test_no_front_is_drawn_from_predictions(run: Run) -> None:
    measure(run, telling(run, 0.5))
    statistics_with(run, "fcn_r1_b0")
    (result,) = search(run.folder, predicted=True)["devices"]
    assert result["results"] and result["hypervolume"] is None
    assert not (run.search("host", "int8") / "pareto.csv").exists()


def test_heads_alone_are_predicted(run: Run) -> None:
    chosen = telling(run, 0.5)
    measure(run, chosen - {"decision_mean_8x8"})
    with pytest.raises(MessError, match="decision_mean_8x8"):
        measured_latencies(run, "int8", unmeasured_heads="predict")


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5])
def test_a_share_is_a_part(run: Run, share: float) -> None:
    with pytest.raises(UsageError, match="Share"):
        profile(run.folder, precision="int8", share=share)


def test_a_share_that_tells_nothing_is_refused_before_measuring(run: Run) -> None:
    with pytest.raises(BenchError, match="too few to predict"):
        profile(run.folder, precision="int8", share=0.05)
    assert not run.profiles.exists()


def test_how_well_the_rest_is_predicted_is_told(run: Run) -> None:
    chosen = telling(run, 0.5)
    measure(run, chosen)
    with Store(run.profiles) as store:
        rows = store.measurements()

    class Done:
        name, lost, measurements = "host", "", rows

    (told,) = predictions(run.folder, run.profiles, [Done()])
    assert told["device"] == "host" and told["precision"] == "int8"
    assert told["learnt"] + told["predicted"] == 59
    assert 0 < told["interval"] < 0.2
    assert told["within_5"] <= told["within_10"] <= 1


def test_what_is_known_from_other_settings_is_taken_where_it_helps(run: Run) -> None:
    pieces = Pieces.load(run.pieces("int8"))
    chosen = telling(run, 0.4)
    measure(run, chosen)
    files = predictable(pieces)
    with Store(run.profiles) as store, open_door("open_device")("host") as device:
        fingerprint = device.describe().fingerprint
        settings = MeasureSettings.preset("quick", 1)
        alone, model = predict_files(files, store, fingerprint, settings)
        assert model.prior is None
        measure(run, {piece.name for piece in pieces.pieces}, threads=2)
        helped, model = predict_files(files, store, fingerprint, settings)
    assert model.prior is not None
    assert model.prior.about["settings"] == MeasureSettings.preset("quick", 2).key

    def off(found: dict[str, Any]) -> float:
        true_ms = {name: law_us(files[name]) / 1000 for name in found}
        return sum(abs(found[n].latency_ms / true_ms[n] - 1) for n in found)

    assert helped.keys() == alone.keys() == files.keys() - chosen
    assert off(helped) <= off(alone)

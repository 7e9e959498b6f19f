"""Some pieces measured, the rest predicted: `profile --share`, `search --predicted`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from android_bench.devices import open_device
from android_bench.errors import BenchError
from android_bench.latency_model.learn import predict_files
from android_bench.records import MeasureSettings
from android_bench.store import Store
from mess_tf.commands import export as export_command
from mess_tf.commands.active_profiling import informative_pieces, predictions
from mess_tf.commands.cards import Source
from mess_tf.commands.latencies import (
    compared_with_probes,
    measured_latencies,
    predictable,
)
from mess_tf.commands.profile import profile
from mess_tf.commands.search import render, search
from mess_tf.core.errors import MessError, UsageError
from mess_tf.core.pieces import Pieces
from mess_tf.core.supernet_spec import SupernetSpec
from mess_tf.runs import Run
from search.requirement import Requirement
from search.result import load_results
from tests.support.hand_made_run import (
    HEADS,
    law_us,
    make_run,
    measure,
    statistics_with,
)

ALWAYS = {
    *("segment_1", "segment_2", "head_1_fcn_r1_b0", "head_2_fcn_r1_b0"),
    *("decision_mean_8x8", "probe_whole", "probe_branch_1"),
}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_run(tmp_path / "run")


def telling(run: Run, share: float) -> set[str]:
    spec = SupernetSpec.load(run.supernet_structure)
    return informative_pieces(run, Pieces.load(run.pieces("int8")), spec, share)


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
        *("segment_1", "segment_2", "head_1_fcn_r1_b0", "head_2_fcn_r1_b0"),
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
        search(run.folder, Requirement(min_miou=0.9))

    result = search(run.folder, Requirement(min_miou=0.9), predicted=True)
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
    source = Source(run, *cast(Any, (None, pieces, None, None)))
    with pytest.raises(MessError, match=name):
        export_command._must_be_measured(
            source, load_results(folder / "chosen.json")[0]
        )

    again = telling(run, 0.5)
    assert name in again
    measure(run, again - chosen)
    result = search(run.folder, Requirement(min_miou=0.9), predicted=True)
    (row,) = result["devices"][0]["results"]
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
    with Store(run.profiles) as store, open_device("host") as device:
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

"""`mess export` in every form, then `mess check` and `mess run` on what it wrote.

The run folder is made by hand: a network without training (its answers vary, which is
all that is needed), latencies that nobody measured, and a search result whose threshold
parts the images. What is measured on the host is only checked for being there.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from android_bench.devices import open_device
from android_bench.records import Conditions, Measurement, MeasureSettings, Round
from android_bench.store import Store
from mess_tf.commands.check import check
from mess_tf.commands.check import render as render_check
from mess_tf.commands.evaluate import evaluate
from mess_tf.commands.export import export
from mess_tf.commands.export import render as render_export
from mess_tf.commands.run import run as run_model
from mess_tf.commands.search import search
from mess_tf.commands.search_options import SearchOptions
from mess_tf.compiling.pieces import compile_supernet
from mess_tf.core.configuration import Configuration, ExitChoice
from mess_tf.core.errors import MessError, UsageError
from mess_tf.core.piece_names import head_name
from mess_tf.core.pieces import Pieces
from mess_tf.core.precisions import Precision
from mess_tf.core.statistics import Statistics
from mess_tf.core.supernet_spec import HeadSpec, SupernetSpec
from mess_tf.exporting.embedded_card import read_card
from mess_tf.exporting.options import ExportForm
from mess_tf.models.supernet import Supernet, build_supernet, design_supernet
from mess_tf.recipe.recipe import Recipe
from mess_tf.runs import Run
from search.requirement import Requirement
from search.result import SearchResult, load_results, save_results
from search.run import Reporter
from tests.support.json_schemas import validate

SIZE = 64
EARLY, FINAL = (1, "fcn_r1_b0"), (2, "fcn_r1_b0_s1")
PRECISIONS: tuple[Precision, ...] = ("float32", "int8")
OUTSIDE = {"model", "sha256", "size_bytes", "files"}  # what only card.json can tell


def _supernet() -> Supernet:
    spec = design_supernet(
        "mobilenet_v2",
        ["background", "disc", "box", "triangle", "ring", "star"],
        image_size=(SIZE, SIZE),
        final_heads=[HeadSpec.parse(FINAL[1])],
        early_heads=[HeadSpec()],
        backbone_options={"alpha": 0.35},
        exit_layers=["block_2_add"],
        head_options={"head_width": 16, "decoder_width": 16, "skip_width": 8},
    )
    supernet = build_supernet(spec)
    rng = np.random.default_rng(1)
    for layer in supernet.model.layers:
        if layer.name.endswith("_logits"):
            kernel, bias = layer.get_weights()
            layer.set_weights([kernel * 6, rng.normal(0, 0.3, bias.shape)])
    return supernet


def _profile(run: Run, pieces: Pieces) -> None:
    """A millisecond per piece, more for later ones."""
    with open_device("host") as device:
        info = device.describe()
    settings = MeasureSettings.preset("quick", 1)
    with Store(run.profiles) as store:
        store.put_device(info)
        for number, piece in enumerate(pieces.pieces, start=1):
            time = "2026-01-02T03:04:05.000+00:00"
            conditions = Conditions(time, temperature_c=30.0 + number, governor="none")
            us = 1000.0 * number
            store.put(
                Measurement(
                    name=piece.name,
                    sha256=piece.sha256,
                    fingerprint=info.fingerprint,
                    settings_key=settings.key,
                    tool_key="tool 1",
                    rounds=(Round((us, us), conditions, runs=2),),
                    time=time,
                )
            )


def _search(run: Run, spec: SupernetSpec, pieces: Pieces) -> None:
    """``half`` lets about half of the images leave; ``none`` has no single exit."""
    statistics = Statistics.load(run.statistics(pieces.precision))
    column = statistics.heads.index(EARLY)
    values = np.sort(statistics.confidence["mean"][:, column])
    # In the widest gap near the middle, so that no image lies on it.
    near = np.arange(len(values) // 2 - 3, len(values) // 2 + 3)
    gap = near[np.argmax(np.diff(values)[near])]
    threshold = float(np.float32(values[gap : gap + 2].mean()))
    chosen = Configuration((ExitChoice(*EARLY, "mean", threshold), ExitChoice(*FINAL)))
    by_piece = {p.name: 1.0 + i for i, p in enumerate(pieces.pieces)}
    by_piece |= {"branch_1": 0.1}
    wish = Requirement(max_drop_pp=50.0)
    reporter = Reporter(statistics, spec, by_piece, wish, 0)
    final = reporter.outcome(Configuration((ExitChoice(*FINAL),)))
    outcome = reporter.outcome(chosen)
    results = [
        SearchResult(
            name=name,
            setting="input-dependent",
            requirement=wish,
            max_early_exits=1,
            chosen=outcome,
            value=outcome.calibration.mean_ms,
            bound=outcome.calibration.mean_ms,
            proven=True,
            space_size=1,
            thresholds_per_policy=1,
            best_static=static,
            reference=final,
            source=statistics.source,
            nodes=1,
            listed=1,
            wall_s=0.1,
        )
        for name, static in (("half", final), ("none", None))
    ]
    save_results(run.search("host", pieces.precision) / "chosen.json", results)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("forms") / "run"
    table = {
        "data": {"kind": "drawn", "size": SIZE, "count_train": 8, "count_val": 24},
        "network": {"height": SIZE, "width": SIZE, "alpha": 0.35, "weights": "random"},
        "statistics": {"policies": ["mean"]},
        "compile": {"precisions": list(PRECISIONS)},
    }
    run = Run.create(folder, Recipe.from_table(table))
    supernet = _supernet()
    supernet.save(folder)
    rng = np.random.default_rng(0)
    images = [rng.uniform(-1, 1, (SIZE, SIZE, 3)).astype(np.float32) for _ in range(4)]
    for precision in PRECISIONS:
        pieces = compile_supernet(
            supernet, run.pieces(precision), precision, images, ["mean"]
        )
        evaluate(folder, precision=precision)
        _profile(run, pieces)
        _search(run, supernet.spec, pieces)
    return folder


@pytest.fixture(autouse=True)
def _whole_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """The device's present speed takes seconds; test_whole_way.py measures it."""
    monkeypatch.setattr("mess_tf.commands.check._whole_ms", lambda *given: 1.0)


def _export(
    folder: Path, precision: Precision, form: ExportForm = ExportForm()
) -> tuple[Path, dict[str, Any]]:
    (row,) = export(folder, form, choice="half", precision=precision)["exports"]
    target = folder / "export" / row["name"]
    assert not [p for p in target.parent.iterdir() if p.name.startswith(".")]
    validate(target / "card.json")
    return target, json.loads((target / "card.json").read_text())


def _picture(folder: Path) -> Path:
    path = folder.parent / "picture.png"
    rng = np.random.default_rng(3)
    Image.fromarray(rng.integers(0, 255, (50, 80, 3), np.uint8)).save(path)
    return path


FORMS: Sequence[ExportForm] = (
    ExportForm(),
    ExportForm(form="stages"),
    ExportForm(form="single"),
    ExportForm(input="uint8", answer="classes", resolution="image"),
    ExportForm(input="float32", output="float32"),
    ExportForm(answer="both", threshold_input=True),
    ExportForm(exit_signatures=True),
    ExportForm(form="stages", input="uint8", answer="classes"),
)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.suffix or "default")
@pytest.mark.parametrize(
    "precision", [pytest.param("float32", marks=pytest.mark.slow), "int8"]
)
def test_an_export_does_what_its_card_says(
    folder: Path, precision: Precision, form: ExportForm, tmp_path: Path
) -> None:
    target, card = _export(folder, precision, form)
    inside = read_card(target / card["model"])
    assert inside == {key: card[key] for key in card if key not in OUTSIDE}
    (row,) = check(folder, name=target.name)["checks"]
    assert row["images_with_other_exit"] == 0
    single = form.form == "single"
    taken = set(row["taken"])
    assert taken == ({FINAL[0]} if single else {EARLY[0], FINAL[0]})
    for part in row["parts"].values():
        assert part["measured_ms"] > 0
        assert part["measured_exit_rates"] == pytest.approx(part["promised_exit_rates"])
        if card["form"]["answer"] != "classes":
            # Exits of an int8 file share one scale: rounding, no more.
            assert part["measured_miou"] == pytest.approx(
                part["promised_miou"], abs=0.005
            )
    model = target if form.form == "stages" else target / card["model"]
    (shown,) = run_model(model, [_picture(folder)], output=tmp_path)["images"]
    assert shown["exit_point"] in taken
    with Image.open(shown["overlay"]) as overlay:
        assert overlay.size == (80, 50)


def test_a_card_tells_what_it_was_made_of_and_what_it_promises(folder: Path) -> None:
    target, card = _export(folder, "int8", ExportForm(input="uint8"))
    run = Run.open(folder)
    spec = SupernetSpec.load(run.supernet_structure)
    assert card["classes"] == list(spec.classes)
    assert len(card["palette"]) == len(spec.classes)
    assert card["quantisation"] == {
        "precision": "int8",
        "calibration": "minmax",
        "calibration_images": 4,
    }
    assert card["input"]["dtype"] == "uint8" and "p - 128" in card["input"]["holds"]
    early, final = card["exits"]
    assert early["threshold"] == card["thresholds"]["default"][0]
    assert 0 < early["macs"] < final["macs"]
    for row in card["exits"]:
        for part in ("report", "calibration"):
            assert 0 <= row["miou"][part] <= 1
    assert card["promise"]["report"]["miou"] >= 0
    assert set(card["inventory"]["types"]["CONV_2D"]) == {"int8 x int8, int32 -> int8"}
    assert {row["operator"] for row in card["in_float"]} >= {"DEQUANTIZE"}
    conditions = card["latency"]["conditions"]
    assert conditions["tool"] == "tool 1" and conditions["temperature_c"][0] > 30
    sources = card["sources"]
    assert {"recipe.toml", "supernet.keras", "statistics"} < set(sources)
    pieces = Pieces.load(run.pieces("int8"))
    name = head_name(*EARLY)
    assert sources["pieces"][name] == pieces[name].sha256
    assert card["size_bytes"] == (target / "model.tflite").stat().st_size


def test_an_export_again_leaves_no_check_of_the_file_before(folder: Path) -> None:
    target, _ = _export(folder, "float32")
    check(folder, name=target.name)
    assert (target / "check.json").is_file()
    _export(folder, "float32")
    assert not (target / "check.json").exists()


def test_what_cannot_be_exported_is_told_in_one_line(folder: Path) -> None:
    with pytest.raises(MessError, match="No single exit keeps the requirement of none"):
        export(folder, ExportForm(form="single"), choice="none")
    with pytest.raises(UsageError, match="--input int8 needs int8 pieces"):
        export(folder, ExportForm(input="int8"), precision="float32")
    with pytest.raises(MessError, match="No search result named 'x'"):
        export(folder, choice="x")
    assert not (folder / "export" / "none_int8_single").exists()


def test_options_without_effect_are_refused_before_anything_is_written(
    folder: Path,
) -> None:
    before = sorted(folder.glob("export/*"))
    run = Run.open(folder)
    path = run.search("host", "int8") / "chosen.json"
    results = load_results(path)
    last = results[0].configuration.exits[-1:]
    alone = dataclasses.replace(results[0].chosen, configuration=Configuration(last))
    single = dataclasses.replace(results[0], name="alone", chosen=alone)
    save_results(path, [*results, single])
    with pytest.raises(UsageError, match="alone leaves at one exit.*--threshold-input"):
        export(folder, ExportForm(threshold_input=True))
    assert sorted(folder.glob("export/*")) == before
    save_results(path, results)
    with pytest.raises(UsageError, match="--precision float16 is of compiled pieces"):
        evaluate(folder, precision="float16", source="keras")


def test_a_promise_made_on_other_statistics_is_not_exported(folder: Path) -> None:
    path = Run.open(folder).statistics("float32")
    before = path.read_bytes()
    statistics = Statistics.load(path)
    column = statistics.heads.index(EARLY)
    for told, other in (
        (
            "now",
            dataclasses.replace(
                statistics,
                confidence={"mean": np.zeros_like(statistics.confidence["mean"])},
            ),
        ),
        (
            "not in them",
            dataclasses.replace(
                statistics,
                heads=tuple(h for h in statistics.heads if h != EARLY),
                predicted_area=np.delete(statistics.predicted_area, column, 1),
                intersection=np.delete(statistics.intersection, column, 1),
                confidence={
                    "mean": np.delete(statistics.confidence["mean"], column, 1)
                },
            ),
        ),
    ):
        other.save(path)
        with pytest.raises(MessError, match=f"half was found .* {told}.*mess search"):
            export(folder, choice="half", precision="float32")
    path.write_bytes(before)
    export(folder, choice="half", precision="float32")


def test_files_that_are_no_export_are_told_in_one_line(
    folder: Path, tmp_path: Path
) -> None:
    picture = _picture(folder)
    run = Run.open(folder)
    piece = run.pieces("int8") / "segment_1.tflite"
    with pytest.raises(MessError, match="has no card inside"):
        run_model(piece, [picture], output=tmp_path)
    target, card = _export(folder, "int8", ExportForm(form="stages"))
    with pytest.raises(MessError, match="is one file of several; give its folder"):
        run_model(target / card["model"], [picture], output=tmp_path)
    changed = target / "stage_2.tflite"
    changed.write_bytes(changed.read_bytes()[:500])
    with pytest.raises(MessError, match="stage_2.tflite is not the file its card"):
        check(folder, name=target.name)
    del card["files"]
    (target / "card.json").write_text(json.dumps(card))
    with pytest.raises(MessError, match="lacks files; run `mess export` again"):
        check(folder, name=target.name)
    with pytest.raises(MessError, match="none"):
        run_model(tmp_path / "none.tflite", [picture], output=tmp_path)


def test_reasons_for_float_are_shown(folder: Path) -> None:
    result = export(folder, choice="half")
    told = render_export(result)
    assert "operators in float:" in told and "the exit decision" in told


@pytest.mark.parametrize("precision", PRECISIONS)
def test_exits_for_deadlines_are_exported_checked_and_run(
    folder: Path, precision: Precision, tmp_path: Path
) -> None:
    # Pieces are said to take milliseconds, and take far less: all answers are in time.
    options = SearchOptions(setting="anytime", deadline=("200", "400:3"))
    searched = search(folder, options=options, precision=precision)
    (ladder,) = searched["devices"][0]["anytime"]
    # How many depends on the drawn weights: a later exit has to be more accurate.
    exits = [one["exit"] for one in ladder["exits"]]
    form = ExportForm(input="uint8")
    (row,) = export(folder, form, choice=ladder["name"], precision=precision)["exports"]
    target = folder / "export" / row["name"]
    assert target.name == f"anytime-200x1-400x3_{precision}_progressive_uint8-in"
    card = json.loads((target / "card.json").read_text())
    validate(target / "card.json")
    assert card["anytime"] == ladder
    assert card["promise"] is card["requirement"] is card["reference"] is None
    assert card["thresholds"]["default"] == [None] * (len(exits) - 1)
    (checked,) = check(folder, name=target.name)["checks"]
    validate(target / "check.json", "check-anytime")
    assert checked["exits"] == exits
    for part, deadlines in checked["parts"].items():
        for one, promised in zip(deadlines, ladder["deadlines"], strict=True):
            assert one["deadline_ms"] == promised["deadline_ms"]
            assert one["promised_miou"] == promised[f"{part}_miou"]
            assert 0 < one["measured_ready_ms"] and one["in_time"] == 1.0
            # Every image has answered at both exits long before.
            final = ladder["deadlines"][-1][f"{part}_miou"]
            assert one["measured_miou"] == pytest.approx(final, abs=0.005)
    assert "in time for 100.0%" in render_check({"checks": [checked]})
    ran = run_model(target, _picture(folder), output=tmp_path)
    assert ran["images"][0]["exit"] == f"exit {len(exits)} of {len(exits)}"


def test_a_form_that_a_result_cannot_have_is_refused(folder: Path) -> None:
    options = SearchOptions(setting="anytime", deadline="300")
    search(folder, options=options, precision="int8")
    with pytest.raises(UsageError, match="--form single: anytime-300 is for deadlines"):
        export(folder, ExportForm(form="single"), choice="anytime-300")
    with pytest.raises(UsageError, match="progressive: half has one answer per image"):
        export(folder, ExportForm(form="progressive"), choice="half")
    with pytest.raises(UsageError, match="--threshold-input is without effect for any"):
        export(folder, ExportForm(threshold_input=True), choice="anytime-300")
    # Without a choice the form takes the results that suit it.
    rows = export(folder, ExportForm(form="progressive", answer="classes"))["exports"]
    assert {"anytime-300_int8_progressive_classes"} <= {row["name"] for row in rows}
    assert all(row["name"].startswith("anytime") for row in rows)


def test_an_export_for_deadlines_of_other_statistics_is_refused(folder: Path) -> None:
    options = SearchOptions(setting="anytime", deadline="350")
    search(folder, options=options, precision="int8")
    path = Run.open(folder).search("host", "int8") / "chosen.json"
    before = path.read_text()
    data = json.loads(before)
    data["anytime"][-1]["exits"][0]["calibration_miou"] += 0.01
    path.write_text(json.dumps(data))
    try:
        with pytest.raises(MessError, match="found with other statistics of int8"):
            export(folder, choice="anytime-350")
    finally:
        path.write_text(before)

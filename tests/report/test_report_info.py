"""The report's record: figures counted by hand, gaps named with their command."""

from __future__ import annotations

import dataclasses
import datetime
import shlex
from pathlib import Path

import pytest

from mess_tf.commands.report import _best_within, _measured, _searched
from mess_tf.core.errors import MessError
from mess_tf.core.precisions import Precision
from mess_tf.core.routing import exit_position_per_image
from mess_tf.reporting.build_report import gather
from mess_tf.reporting.records import HeadFigure, Info, Target
from mess_tf.reporting.targets import Tools, _rounded_up, best_of
from tests.support.report_run import EARLY, FINAL, FakeRun

NOW = datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.UTC)


def info_of(fake: FakeRun) -> Info:
    run = fake.run
    tools = Tools(exit_position_per_image, _best_within)
    return gather(run, _measured(run), _searched(run), tools, NOW)


def target_of(fake: FakeRun) -> Target:
    (target,) = info_of(fake).targets
    return target


@pytest.fixture
def fake(tmp_path: Path) -> FakeRun:
    return FakeRun(tmp_path / "run")


def test_an_answer_beside_the_final_exit(fake: FakeRun) -> None:
    answer = target_of(fake.everything()).answers[0]
    # 3 of 4 report images leave early: 3 x (2 + 1 + 0.25) + (7 + 1 + 0.25 + 3 + 0.5).
    assert answer.chosen.mean_ms == pytest.approx((3 * 3.25 + 11.75) / 4)
    assert answer.chosen.exit_rates == (0.75, 0.25)
    assert answer.reference.mean_ms == pytest.approx(10.5)
    assert answer.chosen.speedup == pytest.approx(10.5 / 5.375)
    # Both classes alike: 3 x 44 + 40 of 200 pixels right, against 3 x 45 + 40.
    drop = 100 * (175 / (400 - 175) - 172 / (400 - 172))
    assert answer.chosen.drop_pp == pytest.approx(drop)
    assert answer.part == "report"
    assert answer.on_calibration.exit_rates == (0.5, 0.5)
    assert answer.on_calibration.speedup == pytest.approx(10.5 / 7.5)
    assert answer.wish == "lowest latency with mIoU drop <= 3 pp"


def test_met_is_judged_on_the_report_part(fake: FakeRun) -> None:
    # The drop on the report part is 2.34 pp.
    three, one = target_of(fake.everything()).answers
    assert three.chosen.met and not one.chosen.met
    assert one.reference.met


def test_where_the_time_goes(fake: FakeRun) -> None:
    first, last, mean, final = target_of(fake.everything()).answers[0].bars
    assert first.parts_ms == pytest.approx((2, 1, 0.25, 0))
    assert last.parts_ms == pytest.approx((7, 4, 0.25, 0.5))
    assert mean.parts_ms == pytest.approx((3.25, 1.75, 0.25, 0.125))
    assert mean.total_ms == pytest.approx(5.375)
    assert final.parts_ms == pytest.approx((7, 3, 0, 0.5))


def test_best_heads_are_chosen_on_the_calibration_part(fake: FakeRun) -> None:
    (rows,) = info_of(fake.everything()).exits.values()
    assert [row.layer for row in rows] == ["block_<1>", "block_2"]
    early, final = rows[0].best["int8"], rows[1].best["int8"]
    assert (early.head, final.head) == (EARLY, FINAL)
    assert early.miou_calibration == pytest.approx(148 / (400 - 148))
    assert early.miou_report == pytest.approx(162 / (400 - 162))
    assert (early.macs, final.macs) == (17, 150)
    assert (early.latency_ms, final.latency_ms) == (3.0, 10.5)
    assert final.final and not early.final


def test_the_report_part_has_no_say_in_the_best_head() -> None:
    good = HeadFigure(1, "a", 1, 1.0, 0.6, 0.1, False)
    lucky = HeadFigure(1, "b", 1, 1.0, 0.5, 0.9, False)
    elsewhere = HeadFigure(2, "c", 1, 1.0, 0.9, 0.9, True)
    assert best_of([lucky, good, elsewhere], 1) == good
    assert best_of([elsewhere], 1) is None


def test_int8_beside_the_float32_final_exit(fake: FakeRun) -> None:
    fake.train()
    cases: list[tuple[Precision, float, int]] = [("float32", 2.0, 0), ("int8", 1.0, 1)]
    for precision, factor, worse in cases:
        fake.compile(precision).evaluate(precision, worse)
        fake.profile(precision, factor).search(precision, factor, worse)
    info = info_of(fake)
    plain, quantised = info.targets
    assert plain.answers[0].against_float is None
    against = quantised.answers[0].against_float
    assert against is not None
    # One pixel fewer per class and image: 168 instead of 172.
    assert against[0] == pytest.approx(21.0 / 5.375)
    drop = 100 * (175 / (400 - 175) - 168 / (400 - 168))
    assert against[1] == pytest.approx(drop)
    (rows,) = info.exits.values()
    assert rows[1].best["float32"].latency_ms == pytest.approx(21.0)


def test_front_points_come_with_rates_and_commands(fake: FakeRun) -> None:
    first, last = target_of(fake.everything()).front
    assert first.exit_rates == (0.75, 0.25)
    assert last.exit_rates == (1.0,)
    assert first.row.shown.mean_ms == pytest.approx(5.375)
    search, export = first.command.split(" && ")
    words = shlex.split(search)
    assert words[:3] == ["mess", "search", str(fake.folder)]
    assert float(words[words.index("--max-latency-ms") + 1]) >= 7.5
    assert words[words.index("--max-early-exits") + 1] == "1"
    assert "--choice mean_ms7.5 " in export


@pytest.mark.parametrize("value", [7.5, 0.1234567, 1234.56789, 9.9999999, 0.0])
def test_budgets_are_never_rounded_below_the_latency(value: float) -> None:
    # The search names its result by the value with six digits: the text must survive.
    text = _rounded_up(value)
    assert value <= float(text) <= value * (1 + 2e-5) + 1e-9
    assert f"{float(text):g}" == text


def test_parts_and_conditions(fake: FakeRun) -> None:
    info = info_of(fake.everything())
    assert [(p.name, p.images, p.groups) for p in info.parts] == [
        ("calibration", 4, 2),
        ("report", 4, 2),
    ]
    (target,) = info.targets
    assert target.measured is not None
    assert (target.measured.preset, target.measured.threads) == ("quick", 1)
    assert target.flags == {"unstable": 1}
    assert target.first == "2026-01-02T03:04:05.000+00:00"
    assert info.on_host and not info.drawn
    assert info.created == "2026-01-02 03:04 UTC"


def test_what_the_check_found(fake: FakeRun) -> None:
    fake.everything().check(elsewhere=2)
    export = target_of(fake).answers[0].export
    assert export is not None and export.checked
    assert (export.images, export.elsewhere) == (8, 2)
    (part,) = export.parts
    assert (part.promised_ms, part.promised_now_ms, part.measured_ms) == (
        5.375,
        6.0,
        6.3,
    )


def test_every_gap_is_named_with_its_command(fake: FakeRun) -> None:
    def gaps() -> list[str]:
        return [shlex.split(item.command)[1] for item in info_of(fake).missing]

    fake.train()
    assert gaps() == ["compile", "evaluate", "profile", "search"]
    fake.compile()
    assert gaps() == ["evaluate", "profile", "search"]
    fake.evaluate()
    assert gaps() == ["profile", "search"]
    fake.profile()
    assert gaps() == ["search"]
    fake.search()
    assert gaps() == ["export", "export"]
    fake.export()
    assert gaps() == ["check", "export"]
    fake.check()
    assert gaps() == ["export"]


def test_an_untrained_run_is_told_to_train(fake: FakeRun) -> None:
    with pytest.raises(MessError, match=r"mess train .*run"):
        info_of(fake)


def test_pieces_measured_again_since_the_search_are_not_summed(fake: FakeRun) -> None:
    fake.everything().profile(factor=1.5)
    info = info_of(fake)
    answer = info.targets[0].answers[0]
    assert answer.bars == ()
    assert answer.chosen.mean_ms == pytest.approx(5.375)
    assert any("measured again" in item.what for item in info.missing)


@pytest.mark.parametrize("order", [(2, 4), (4, 2)])
def test_the_settings_that_the_search_used_are_found(
    fake: FakeRun, order: tuple[int, int]
) -> None:
    # Measured with two and with four threads; the search was made with two.
    fake.train().compile().evaluate().search()
    for threads in order:
        fake.profile(factor=1.0 if threads == 2 else 0.6, threads=threads)
    target = target_of(fake)
    assert target.measured is not None and target.measured.threads == 2
    assert target.answers[0].bars[2].total_ms == pytest.approx(5.375)


def test_the_file_of_another_configuration_is_not_taken_for_the_answers(
    fake: FakeRun,
) -> None:
    fake.everything()
    card = fake.run.export("drop3_int8") / "card.json"
    card.write_text(card.read_text().replace("0.8", "0.7"))
    assert target_of(fake).answers[0].export is None


def test_the_featured_answer_is_the_fastest_that_was_met(fake: FakeRun) -> None:
    target = target_of(fake.everything())
    answer = target.answers[0]

    def featured(*figures: tuple[float, bool]) -> int:
        """Which of the answers with these latencies, met or not, is shown first."""
        answers = tuple(
            dataclasses.replace(
                answer, chosen=dataclasses.replace(answer.chosen, mean_ms=ms, met=met)
            )
            for ms, met in figures
        )
        shown = dataclasses.replace(target, answers=answers).featured
        return next(k for k, one in enumerate(answers) if one is shown)

    assert featured((3.0, True), (2.0, True), (1.0, False)) == 1
    assert featured((1.0, False), (3.0, True)) == 1
    assert featured((3.0, False), (1.0, False)) == 0
    assert dataclasses.replace(target, answers=()).featured is None


def test_a_search_that_fails_costs_fig_7_only(fake: FakeRun) -> None:
    def fail(*_: object) -> None:
        raise MessError("nothing was found in time")

    run = fake.everything().run
    tools = Tools(exit_position_per_image, fail)
    info = gather(run, _measured(run), _searched(run), tools, NOW)
    (target,) = info.targets
    assert target.rings == () and len(target.views) == 3
    assert "int8 on host: Fig. 7: nothing was found in time" in [
        item.what for item in info.missing
    ]

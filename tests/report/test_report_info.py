"""The report's record: figures counted by hand, gaps named with their command."""

from __future__ import annotations

import dataclasses
import datetime
import shlex
from pathlib import Path

import pytest

from mess_tf.core.configuration import Configuration, ExitChoice
from mess_tf.core.errors import MessError
from mess_tf.core.precisions import Precision
from mess_tf.reporting.build_report import build_report
from mess_tf.reporting.deployments import best_head, rounded_up
from mess_tf.reporting.records import Deployment, HeadFigures, RunReport
from mess_tf.reporting.routed import Router, report_images
from tests.support.report_run import EARLY, FINAL, FakeRun, make_statistics

NOW = datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.UTC)


def report_of(fake: FakeRun) -> RunReport:
    return build_report(fake.run, NOW)


def deployment_of(fake: FakeRun) -> Deployment:
    (deployment,) = report_of(fake).deployments
    return deployment


@pytest.fixture
def fake(tmp_path: Path) -> FakeRun:
    return FakeRun(tmp_path / "run")


def test_an_answer_beside_the_final_exit(fake: FakeRun) -> None:
    result = deployment_of(fake.everything()).results[0]
    # 3 of 4 report images leave early: 3 x (2 + 1 + 0.25) + (7 + 1 + 0.25 + 3 + 0.5).
    assert result.chosen.mean_ms == pytest.approx((3 * 3.25 + 11.75) / 4)
    assert result.chosen.exit_rates == (0.75, 0.25)
    assert result.reference.mean_ms == pytest.approx(10.5)
    assert result.chosen.speedup == pytest.approx(10.5 / 5.375)
    # Both classes alike: 3 x 44 + 40 of 200 pixels right, against 3 x 45 + 40.
    drop = 100 * (175 / (400 - 175) - 172 / (400 - 172))
    assert result.chosen.drop_pp == pytest.approx(drop)
    assert result.part == "report"
    assert result.on_calibration.exit_rates == (0.5, 0.5)
    assert result.on_calibration.speedup == pytest.approx(10.5 / 7.5)
    assert result.requirement == "lowest latency with mIoU drop <= 3 pp"


def test_met_is_judged_on_the_report_part(fake: FakeRun) -> None:
    # The drop on the report part is 2.34 pp.
    three, one = deployment_of(fake.everything()).results
    assert three.chosen.met and not one.chosen.met
    assert one.reference.met


def test_where_the_time_goes(fake: FakeRun) -> None:
    first, last, mean, final = deployment_of(fake.everything()).results[0].breakdowns
    assert first.kinds_ms == pytest.approx((2, 1, 0.25, 0))
    assert last.kinds_ms == pytest.approx((7, 4, 0.25, 0.5))
    assert mean.kinds_ms == pytest.approx((3.25, 1.75, 0.25, 0.125))
    assert mean.total_ms == pytest.approx(5.375)
    assert final.kinds_ms == pytest.approx((7, 3, 0, 0.5))


def test_best_heads_are_chosen_on_the_calibration_part(fake: FakeRun) -> None:
    (rows,) = report_of(fake.everything()).exits.values()
    assert [row.layer for row in rows] == ["block_<1>", "block_2"]
    early, final = rows[0].best["int8"], rows[1].best["int8"]
    assert (early.head, final.head) == (EARLY, FINAL)
    assert early.miou_calibration == pytest.approx(148 / (400 - 148))
    assert early.miou_report == pytest.approx(162 / (400 - 162))
    assert (early.macs, final.macs) == (17, 150)
    assert (early.latency_ms, final.latency_ms) == (3.0, 10.5)
    assert final.final and not early.final


def test_the_report_part_has_no_say_in_the_best_head() -> None:
    good = HeadFigures(1, "a", 1, 1.0, 0.6, 0.1, False)
    lucky = HeadFigures(1, "b", 1, 1.0, 0.5, 0.9, False)
    rerouted_images = HeadFigures(2, "c", 1, 1.0, 0.9, 0.9, True)
    assert best_head([lucky, good, rerouted_images], 1) == good
    assert best_head([rerouted_images], 1) is None


def test_int8_beside_the_float32_final_exit(fake: FakeRun) -> None:
    fake.train()
    cases: list[tuple[Precision, float, int]] = [("float32", 2.0, 0), ("int8", 1.0, 1)]
    for precision, factor, worse in cases:
        fake.compile(precision).evaluate(precision, worse)
        fake.profile(precision, factor).search(precision, factor, worse)
    report = report_of(fake)
    plain, quantised = report.deployments
    assert plain.results[0].against_float is None
    against = quantised.results[0].against_float
    assert against is not None
    # One pixel fewer per class and image: 168 instead of 172.
    assert against[0] == pytest.approx(21.0 / 5.375)
    drop = 100 * (175 / (400 - 175) - 168 / (400 - 168))
    assert against[1] == pytest.approx(drop)
    (rows,) = report.exits.values()
    assert rows[1].best["float32"].latency_ms == pytest.approx(21.0)


def test_front_points_come_with_rates_and_commands(fake: FakeRun) -> None:
    first, last = deployment_of(fake.everything()).front
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
    text = rounded_up(value)
    assert value <= float(text) <= value * (1 + 2e-5) + 1e-9
    assert f"{float(text):g}" == text


def test_parts_and_conditions(fake: FakeRun) -> None:
    report = report_of(fake.everything())
    assert [(p.name, p.images, p.groups) for p in report.parts] == [
        ("calibration", 4, 2),
        ("report", 4, 2),
    ]
    (deployment,) = report.deployments
    assert deployment.measured is not None
    assert (deployment.measured.preset, deployment.measured.threads) == ("quick", 1)
    assert deployment.flags == {"unstable": 1}
    assert deployment.first_measured == "2026-01-02T03:04:05.000+00:00"
    assert report.on_host and not report.drawn
    assert report.created == "2026-01-02 03:04 UTC"


def test_what_the_check_found(fake: FakeRun) -> None:
    fake.everything().check(rerouted_images=2)
    export = deployment_of(fake).results[0].export
    assert export is not None and export.checked
    assert (export.images, export.rerouted_images) == (8, 2)
    (part,) = export.parts
    assert (part.promised_ms, part.promised_now_ms, part.measured_ms) == (
        5.375,
        6.0,
        6.3,
    )


def test_every_gap_is_named_with_its_command(fake: FakeRun) -> None:
    def gaps() -> list[str]:
        return [shlex.split(item.command)[1] for item in report_of(fake).missing]

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


def test_an_untrained_run_names_the_command_that_trains(fake: FakeRun) -> None:
    with pytest.raises(MessError, match=r"mess train .*run"):
        report_of(fake)


def test_pieces_measured_again_since_the_search_are_not_summed(fake: FakeRun) -> None:
    fake.everything().profile(factor=1.5)
    report = report_of(fake)
    result = report.deployments[0].results[0]
    assert result.breakdowns == ()
    assert result.chosen.mean_ms == pytest.approx(5.375)
    assert any("measured again" in item.what for item in report.missing)


@pytest.mark.parametrize("order", [(2, 4), (4, 2)])
def test_the_settings_that_the_search_used_are_found(
    fake: FakeRun, order: tuple[int, int]
) -> None:
    # Measured with two and with four threads; the search was made with two.
    fake.train().compile().evaluate().search()
    for threads in order:
        fake.profile(factor=1.0 if threads == 2 else 0.6, threads=threads)
    deployment = deployment_of(fake)
    assert deployment.measured is not None and deployment.measured.threads == 2
    assert deployment.results[0].breakdowns[2].total_ms == pytest.approx(5.375)


def test_the_file_of_another_configuration_is_not_taken_for_the_answers(
    fake: FakeRun,
) -> None:
    fake.everything()
    card = fake.run.export("drop3_int8") / "card.json"
    card.write_text(card.read_text().replace("0.8", "0.7"))
    assert deployment_of(fake).results[0].export is None


def test_the_featured_answer_is_the_fastest_that_was_met(fake: FakeRun) -> None:
    deployment = deployment_of(fake.everything())
    result = deployment.results[0]

    def featured(*figures: tuple[float, bool]) -> int:
        """Which of the answers with these latencies, met or not, is shown first."""
        results = tuple(
            dataclasses.replace(
                result, chosen=dataclasses.replace(result.chosen, mean_ms=ms, met=met)
            )
            for ms, met in figures
        )
        shown = dataclasses.replace(deployment, results=results).featured
        return next(k for k, one in enumerate(results) if one is shown)

    assert featured((3.0, True), (2.0, True), (1.0, False)) == 1
    assert featured((1.0, False), (3.0, True)) == 1
    assert featured((3.0, False), (1.0, False)) == 0
    assert dataclasses.replace(deployment, results=()).featured is None


def test_a_search_that_fails_costs_fig_7_only(fake: FakeRun) -> None:
    report = build_report(fake.everything().run, NOW, speedup_time_limit_s=-1.0)
    (deployment,) = report.deployments
    assert deployment.speedups == () and len(deployment.configurations) == 3
    assert deployment.speedups_error
    assert f"int8 on host: Fig. 7: {deployment.speedups_error}" in [
        part.what for part in report.missing
    ]


def test_a_configuration_is_routed_once(fake: FakeRun) -> None:
    router = Router(make_statistics("int8"))
    early = ExitChoice(1, EARLY, "mean", 0.8)
    configuration = Configuration((early, ExitChoice(2, FINAL)))
    routed = router(configuration)
    assert router(Configuration(configuration.exits)) is routed
    assert routed.exit_positions.tolist() == [0, 0, 1, 1, 0, 0, 0, 1]
    images = report_images(router.statistics)
    assert routed.exit_rates(images) == (0.75, 0.25)
    # 3 images with 44 of 50 pixels right per class, one with 40.
    assert routed.areas(images).intersection.tolist() == [172, 172]

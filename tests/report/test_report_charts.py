"""Records of the report's charts, and their drawings as SVG."""

from __future__ import annotations

import datetime
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mess_tf.reporting.build_report import build_report
from mess_tf.reporting.charts.axes import (
    linear_axis,
    log_ticks,
    logarithmic_axis,
    ticks,
)
from mess_tf.reporting.charts.bars import (
    configuration_latency_chart,
    configuration_rates_chart,
    result_latency_chart,
)
from mess_tf.reporting.charts.latency_accuracy import (
    comparison_chart,
    exits_chart,
    front_chart,
)
from mess_tf.reporting.charts.radar import (
    MOST_SPOKES,
    RadarChart,
    RadarCurve,
    exit_radar,
    shown_classes,
)
from mess_tf.reporting.charts.scatter import (
    LabelRequest,
    PointLabel,
    ScatterChart,
    place_labels,
    position,
    text_box,
)
from mess_tf.reporting.page.radar_svg import HEIGHT, RADIUS, WIDTH, radar_svg
from mess_tf.reporting.page.scatter_svg import scatter_svg
from mess_tf.reporting.records import RunReport
from tests.support.report_run import FakeRun

NOW = datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.UTC)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> RunReport:
    run = FakeRun(tmp_path_factory.mktemp("charts") / "run").everything().run
    return build_report(run, NOW)


def test_the_front_has_every_configuration_on_both_parts(report: RunReport) -> None:
    (deployment,) = report.deployments
    chart = front_chart(deployment)
    series = {one.role: one for one in chart.series}
    # The static early heads are faster than what the axes show.
    assert set(series) == {"calibration", "report", "final exit"}
    # Configurations by drop: the final exit, then drop3 and drop1, which are the same.
    assert [one.name for one in deployment.configurations] == [
        "front 2",
        "drop3",
        "drop1",
    ]
    for role in ("calibration", "report"):
        points = series[role].points
        assert [point.configuration for point in points] == [0, 1, 2]
        assert [point.result for point in points] == [False, True, True]
        assert [point.focusable for point in points] == [role == "report"] * 3
    assert [point.x for point in series["report"].points] == pytest.approx(
        [10.5, 5.375, 5.375]
    )
    miou = [100 * 175 / 225, 100 * 172 / 228, 100 * 172 / 228]
    assert [point.y for point in series["report"].points] == pytest.approx(miou)
    # The line runs through what nothing beats on the calibration part, once each.
    assert [x for x, _ in series["calibration"].line] == pytest.approx([7.5, 10.5])
    assert [x for x, _ in series["report"].line] == pytest.approx([5.375, 10.5])
    assert (chart.x.label, chart.y.label) == ("mean latency, ms", "mIoU, %")
    texts = [label.text for label in chart.labels]
    assert texts == ["drop3, drop1", "final exit"]


def test_the_front_is_drawn_whole(report: RunReport) -> None:
    (deployment,) = report.deployments
    chart = front_chart(deployment)
    svg = ElementTree.fromstring(scatter_svg(chart))
    dots = [c for c in svg.iter("circle") if "dot" in c.get("class", "").split()]
    chosen = sorted(int(dot.get("data-configuration", "")) for dot in dots)
    assert chosen == [0, 0, 1, 1, 2, 2]
    for dot in dots:
        title = dot.find("title")
        name = deployment.configurations[int(dot.get("data-configuration", ""))].name
        assert title is not None and title.text is not None
        assert title.text.startswith(f"{name}: ")
        assert 0 < float(dot.get("cx", "")) < 640 and 0 < float(dot.get("cy", "")) < 420
    assert any(path.get("class") == "final" for path in svg.iter("path"))
    assert {text.text for text in svg.iter("text")} >= {"drop3, drop1", "final exit"}
    # Faster is further left, and the better point is higher up.
    place = {
        float(d.get("cx", "")): float(d.get("cy", ""))
        for d in dots
        if "rep" in d.get("class", "").split()
    }
    (_, fast), (_, good) = sorted(place.items())
    assert good < fast


def test_compared_deployments_are_groups_with_their_final_exits(
    report: RunReport,
) -> None:
    deployments = report.deployments * 2
    chart = comparison_chart(deployments, ["one", "<two>"])
    assert [series.name for series in chart.series] == ["one", "<two>"]
    assert [series.group for series in chart.series] == [0, 1]
    for series in chart.series:
        assert [point.final for point in series.points] == [False, False, False, True]
        assert all(point.configuration is None for point in series.points)
    svg = scatter_svg(chart)
    assert "&lt;two&gt;, drop3: " in svg and 'role="img"' in svg


def test_the_best_head_of_every_exit_has_a_point(report: RunReport) -> None:
    (table,) = report.exits.values()
    chart = exits_chart(table)
    assert chart is not None
    (series,) = chart.series
    assert [point.x for point in series.points] == pytest.approx([3.0, 10.5])
    assert [label.text for label in chart.labels] == ["1", "2*"]
    assert exits_chart([]) is None


def boxes(
    labels: tuple[PointLabel, ...], spots: list[tuple[float, float]]
) -> list[tuple[float, float, float, float]]:
    return [
        text_box(label.text, x + label.dx, y + label.dy, label.anchor)
        for label, (x, y) in zip(labels, spots, strict=True)
    ]


def overlap(
    a: tuple[float, float, float, float], b: tuple[float, float, float, float]
) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


@given(
    st.lists(
        st.tuples(st.floats(1.0, 4.0), st.floats(50.0, 60.0)), min_size=1, max_size=5
    )
)
def test_labels_of_close_points_do_not_overlap(
    points: list[tuple[float, float]],
) -> None:
    x_axis = logarithmic_axis("ms", [1.0, 4.0])
    y_axis = linear_axis("%", [40.0, 70.0])
    requests = [LabelRequest(f"drop{k}", x, y) for k, (x, y) in enumerate(points)]
    labels = place_labels(x_axis, y_axis, requests)
    assert labels == place_labels(x_axis, y_axis, requests)
    named = sorted(name for label in labels for name in label.text.split(", "))
    assert named == sorted(request.text for request in requests)
    spots = [position(x_axis, y_axis, label.x, label.y) for label in labels]
    placed = boxes(labels, spots)
    for k, box in enumerate(placed):
        assert not any(overlap(box, other) for other in placed[k + 1 :])


def test_a_label_makes_way_and_a_leader_shows_its_point() -> None:
    x_axis, y_axis = linear_axis("ms", [0.0, 100.0]), linear_axis("%", [0.0, 100.0])
    row = [LabelRequest(f"point {k}", 40.0 + 3 * k, 50.0) for k in range(3)]
    first, second, third = place_labels(x_axis, y_axis, row)
    assert (first.dy, first.leader) == (24.0, False)
    assert (second.dy, second.leader) == (-14.0, False)
    assert third.leader and third.dy == 46.0
    chart = ScatterChart("labels", x_axis, y_axis, (), (first, second, third))
    assert scatter_svg(chart).count('class="leader"') == 1


def test_points_at_the_same_place_share_a_label() -> None:
    x_axis, y_axis = linear_axis("ms", [0.0, 100.0]), linear_axis("%", [0.0, 100.0])
    same = [LabelRequest("a", 50.0, 50.0), LabelRequest("b", 50.2, 50.0)]
    (label,) = place_labels(x_axis, y_axis, same)
    assert (label.text, label.dy, label.leader) == ("a, b", 24.0, False)


def test_bars_of_a_configuration(report: RunReport) -> None:
    (deployment,) = report.deployments
    reported = deployment.configurations[1]
    chart = configuration_latency_chart(reported)
    assert [bar.strong for bar in chart.bars] == [False, False, True, False]
    mean = chart.bars[2]
    values = [segment.value for segment in mean.segments]
    assert values == pytest.approx([3.25, 1.75, 0.25, 0.125])
    assert mean.value == "5.38 ms" and chart.length == pytest.approx(11.75)
    assert chart.legend == ("segments", "heads", "decisions", "output")
    rates = configuration_rates_chart(reported)
    assert [bar.label for bar in rates.bars] == ["report part", "calibration part"]
    assert [s.value for s in rates.bars[0].segments] == pytest.approx([75.0, 25.0])
    every = result_latency_chart(deployment.results)
    assert len(every.bars) == 8 and every.bars[4].label.startswith("drop1: ")


def test_spokes_are_the_classes_that_occur() -> None:
    nan = float("nan")
    curves = {"a": np.array([0.5, nan, 0.7]), "b": np.array([0.5, nan, nan])}
    assert shown_classes(curves, ("x", "y", "z")) == [0, 2]


def test_of_many_classes_those_that_differ_most_have_spokes() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random(40), rng.random(40)
    kept = shown_classes({"a": a, "b": b}, [f"class {c}" for c in range(40)])
    assert len(kept) == MOST_SPOKES and kept == sorted(kept)
    left = [c for c in range(40) if c not in kept]
    assert np.abs(a - b)[kept].min() >= np.abs(a - b)[left].max()


def test_the_radar_chart_has_the_exits_and_the_network(report: RunReport) -> None:
    (deployment,) = report.deployments
    chart = exit_radar(deployment.configurations[1], report.classes)
    assert chart.spokes == report.classes
    assert [(curve.name, curve.role) for curve in chart.curves] == [
        ("exit 1", "exit"),
        ("exit 2", "exit"),
        ("the network", "network"),
    ]
    assert chart.curves[2].values == pytest.approx([172 / 228] * 2)
    alone = exit_radar(deployment.configurations[0], report.classes)
    assert [curve.name for curve in alone.curves] == ["exit 2"]


def test_a_radar_curve_lies_where_the_iou_is() -> None:
    curve = RadarCurve("<all>", "", np.array([1.0, 0.5, 0.0, 0.25]), "exit")
    svg = radar_svg(RadarChart("a & b", tuple("abcd"), (curve,)))
    root = ElementTree.fromstring(svg)
    (shape,) = (p for p in root.iter("polygon") if p.get("class") == "curve e0")
    x, y = WIDTH / 2, HEIGHT / 2
    wanted = [(x, y - RADIUS), (x + RADIUS / 2, y), (x, y), (x - RADIUS / 4, y)]
    found = [tuple(map(float, p.split(","))) for p in shape.get("points", "").split()]
    assert np.allclose(found, wanted, atol=0.06)


def test_a_class_that_does_not_occur_leaves_a_gap() -> None:
    curves = (
        RadarCurve("some", "", np.array([0.5, 0.5, np.nan, 0.5]), "exit"),
        RadarCurve("all", "", np.full(4, 0.9), "exit", position=1),
    )
    svg = radar_svg(RadarChart("gap", tuple("abcd"), curves))
    root = ElementTree.fromstring(svg)
    lines = [p for p in root.iter("polyline") if "e0" in p.get("class", "")]
    assert [len(line.get("points", "").split()) for line in lines] == [3]
    knots = [c for c in root.iter("circle") if "e0" in c.get("class", "")]
    assert len(knots) == 3


@given(st.floats(0, 1e4), st.floats(1e-3, 1e4))
def test_ticks_are_even_and_cover_the_values(low: float, width: float) -> None:
    marks = ticks(low, low + width)
    steps = np.diff(marks)
    assert 2 <= len(marks) <= 10
    assert marks[0] <= low + 1e-6 * steps[0]
    assert marks[-1] >= low + width - 1e-6 * steps[0]
    assert np.allclose(steps, steps[0], rtol=1e-6)
    digit = steps[0] / 10 ** np.floor(np.log10(steps[0]) + 1e-9)
    assert min(abs(digit - d) for d in (1, 2, 5, 10)) < 1e-6


@given(st.floats(1e-3, 1e4), st.floats(1.01, 1e3))
def test_ticks_of_a_logarithmic_scale_lie_within(low: float, ratio: float) -> None:
    marks = log_ticks(low, low * ratio)
    assert marks == sorted(set(marks)) and len(marks) <= 12
    assert all(low <= mark <= low * ratio for mark in marks)
    if ratio > 3:
        assert len(marks) >= 2

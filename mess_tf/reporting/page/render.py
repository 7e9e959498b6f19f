"""The page: reports of runs as one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mess_tf.core.latency import KINDS
from mess_tf.core.precisions import PRECISIONS
from mess_tf.reporting import text
from mess_tf.reporting.charts.bars import (
    configuration_latency_chart,
    configuration_rates_chart,
)
from mess_tf.reporting.charts.latency_accuracy import comparison_chart, front_chart
from mess_tf.reporting.charts.radar import exit_radar, speedup_radar, speedup_shade
from mess_tf.reporting.gallery import Head, end_heads
from mess_tf.reporting.illustrate import IllustratedReport
from mess_tf.reporting.images import SURE_FROM, sure_colours
from mess_tf.reporting.page.data import (
    SliderStop,
    as_script,
    first_configuration,
    make_stops,
    page_data,
)
from mess_tf.reporting.page.picture_store import PictureStore
from mess_tf.reporting.page.radar_svg import exit_css, radar_svg, speedup_css
from mess_tf.reporting.page.scatter_svg import scatter_svg
from mess_tf.reporting.records import Deployment, RunReport
from mess_tf.reporting.side_by_side import SideBySide

FOLDER = Path(__file__).parent


def render_page(
    illustrated: Sequence[IllustratedReport], rows: SideBySide | None
) -> str:
    """The report as HTML text.

    Args:
        illustrated: per run its figures and sample images.
        rows: runs side by side, if there are several with the same images.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    # Names of classes, images and heads come from files: everything is escaped.
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shown = {
        name: getattr(text, name)
        for name in "ms percent pp times speed rates macs megabytes".split()
    }
    environment.filters |= {
        **shown,
        "count": text.count,
        "signs": text.signs,
        "stamp": lambda time: time[:16].replace("T", " "),
    }
    environment.globals |= {
        "show": shown,
        "kinds": KINDS,
        "configuration_text": text.configuration_text,
        "end_heads": end_heads,
        "front_chart": front_chart,
        "scatter_svg": scatter_svg,
        "exit_radar": exit_radar,
        "speedup_radar": speedup_radar,
        "speedup_shade": speedup_shade,
        "radar_svg": radar_svg,
        "exit_css": exit_css,
        "speedup_css": speedup_css,
        "bar_css": {"kinds": "k{}".format, "exits": exit_css},
        "latency_chart": configuration_latency_chart,
        "rates_chart": configuration_rates_chart,
        "first_configuration": first_configuration,
    }
    reports = [one.report for one in illustrated]
    suffixes = _suffixes(reports)
    deployments, labels = [], []
    pictures: dict[tuple[str, str], PictureStore] = {}
    for number, one in enumerate(illustrated):
        report = one.report
        # What is shipped first: an int8 network before the float one it came from.
        order = sorted(report.deployments, key=lambda t: -PRECISIONS.index(t.precision))
        for deployment in sorted(order, key=lambda t: t.device):
            gallery = one.galleries.get(deployment.precision)
            if gallery is not None and gallery.samples:
                name = f"p{number}-{deployment.precision}"
                pictures[report.run, deployment.precision] = PictureStore(name, gallery)
            deployments.append(deployment)
            labels.append(
                f"{deployment.precision} on {deployment.device}{suffixes[number]}"
            )
    searched = [
        k for k, deployment in enumerate(deployments) if deployment.configurations
    ]
    stops = make_stops(deployments)
    return environment.get_template("page.html.j2").render(
        reports=reports,
        deployments=list(zip(deployments, labels, strict=True)),
        of_run={report.run: report for report in reports},
        pictures=pictures,
        uris=[
            (picture, *used.size)
            for key, used in pictures.items()
            for picture in used.uris(_ends(deployments, key))
        ],
        compared=scatter_svg(
            comparison_chart(
                [deployments[k] for k in searched], [labels[k] for k in searched]
            )
        )
        if len(searched) > 1
        else None,
        rows=rows,
        stops=stops,
        begin=_first_stop(stops, deployments),
        sure_colours=sure_colours(),
        sure_from=SURE_FROM,
        style=(FOLDER / "page.css").read_text(encoding="utf-8"),
        script=(FOLDER / "page.js").read_text(encoding="utf-8"),
        data=as_script(page_data(deployments, labels)),
    )


def _suffixes(reports: Sequence[RunReport]) -> list[str]:
    """What tells the runs apart: their folders' names, or paths where those agree."""
    if len(reports) == 1:
        return [""]
    names = [Path(report.run).name for report in reports]
    if len(set(names)) < len(names):
        names = [report.run for report in reports]
    return [f", {name}" for name in names]


def _ends(deployments: Sequence[Deployment], key: tuple[str, str]) -> set[Head]:
    """Heads whose confidence maps a gallery's page shows."""
    return {
        head
        for deployment in deployments
        if (deployment.run, deployment.precision) == key
        for reported in deployment.configurations
        for head in end_heads(reported)
    }


def _first_stop(stops: Sequence[SliderStop], deployments: Sequence[Deployment]) -> int:
    """Index of the stop that shows the first deployment as it begins, or nearest."""
    if not stops:
        return 0
    first = next(deployment for deployment in deployments if deployment.configurations)
    place, index = deployments.index(first), first_configuration(first)
    exact = [k for k, stop in enumerate(stops) if stop.configurations[place] == index]
    if exact:
        return exact[0]
    drop = first.configurations[index or 0].calibration.drop_pp
    return min(range(len(stops)), key=lambda k: abs(stops[k].drop_pp - drop))

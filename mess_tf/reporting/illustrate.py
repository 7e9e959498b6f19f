"""Reports of runs with their sample images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mess_tf.core.errors import MessError
from mess_tf.core.pieces import Pieces
from mess_tf.core.statistics import Statistics
from mess_tf.core.supernet_spec import SupernetSpec
from mess_tf.data.dataset import Dataset, open_dataset
from mess_tf.reporting.gallery import (
    Gallery,
    GalleryMaker,
    HeadRunner,
    choose_images,
    early_head,
    named_images,
    pixel_threshold,
)
from mess_tf.reporting.records import MissingPart, RunReport
from mess_tf.runs import Run

OpenPieces = Callable[[Pieces], HeadRunner]


@dataclass(frozen=True, eq=False)
class IllustratedReport:
    """The report of a run with its sample images.

    Attributes:
        report: the figures.
        galleries: sample images by precision; empty where they could not be made.
    """

    report: RunReport
    galleries: Mapping[str, Gallery]


def open_piece_runner(pieces: Pieces) -> HeadRunner:
    """Runs pieces in LiteRT on this computer."""
    from mess_tf.runtime.piece_runner import PieceRunner

    return PieceRunner(pieces)


def illustrate(
    run: Run,
    report: RunReport,
    first: IllustratedReport | None = None,
    open_pieces: OpenPieces = open_piece_runner,
) -> IllustratedReport:
    """Adds sample images with the output of every head that is shown.

    A data set or pieces that are gone cost the images, not the report: the reason is
    listed in ``missing``.

    Args:
        run: the opened run folder.
        report: of the run.
        first: the first run on the page, whose images are taken where they are there.
        open_pieces: gives what runs the pieces.
    """
    precisions = dict.fromkeys(
        d.precision for d in report.deployments if d.configurations
    )
    galleries: dict[str, Gallery] = {}
    try:
        data = open_dataset(run.recipe.data) if precisions else None
        for precision in precisions:
            if data is not None:
                runner = open_pieces(Pieces.load(run.pieces(precision)))
                galleries[precision] = _gallery(
                    run, report, precision, first, data, runner
                )
    except MessError as error:
        lost = MissingPart(f"Sample images: {error}", f"mess report {run.folder}")
        report = dataclasses.replace(report, missing=(*report.missing, lost))
    return IllustratedReport(report, galleries)


def _gallery(
    run: Run,
    report: RunReport,
    precision: str,
    first: IllustratedReport | None,
    data: Dataset,
    runner: HeadRunner,
) -> Gallery:
    spec = SupernetSpec.load(run.supernet_structure)
    statistics = Statistics.load(run.statistics(precision))
    shown = [
        reported
        for deployment in report.deployments
        if deployment.precision == precision
        for reported in deployment.configurations
    ]
    leading = next(
        d for d in report.deployments if d.precision == precision and d.configurations
    )
    featured = leading.featured_configuration or shown[0]
    heads = {(choice.exit, choice.head) for one in shown for choice in one.exits}
    heads.add((spec.exit_points[-1].index, spec.final_head.id))
    images: list[int] = []
    if first is not None and precision in first.galleries:
        names = [sample.name for sample in first.galleries[precision].samples]
        images = named_images(statistics, names)
        early = [
            early_head(deployment.featured_configuration)
            for deployment in first.report.deployments
            if deployment.precision == precision
        ]
        heads.update(head for head in early if head in statistics.heads)
    if not images:
        images = choose_images(statistics, featured.exits, featured.exit_positions)
    maker = GalleryMaker(
        data, spec, statistics, runner, pixel_threshold(featured.exits)
    )
    return maker.gallery(images, heads)

"""Fig. 8: the same images and the same early exit in networks trained differently."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mess_tf.reporting.gallery import Gallery, Head, HeadOutput, early_head
from mess_tf.reporting.illustrate import IllustratedReport


@dataclass(frozen=True, eq=False)
class RunOutputs:
    """Outputs of one run's early exit for the images, in their order."""

    run: str
    training: str
    outputs: tuple[HeadOutput, ...]


@dataclass(frozen=True, eq=False)
class SideBySide:
    """Runs beside one another.

    Attributes:
        gallery: of the first run: images, labels.
        head, final: the early exit that is compared, and the first run's final exit.
        columns: one per run that has the images and the head.
    """

    precision: str
    gallery: Gallery
    head: Head
    final: Head
    columns: tuple[RunOutputs, ...]


def side_by_side(reports: Sequence[IllustratedReport]) -> SideBySide | None:
    """Lines up runs whose galleries show the same images; None where fewer than two do.

    Args:
        reports: one per run; the first run leads.
    """
    report, galleries = reports[0].report, reports[0].galleries
    for deployment in report.deployments:
        precision, final = deployment.precision, deployment.final
        head = early_head(deployment.featured_configuration)
        gallery = galleries.get(precision)
        if head is None or gallery is None or final is None:
            continue
        names = [sample.name for sample in gallery.samples]
        columns = []
        for other in reports:
            theirs = other.galleries.get(precision)
            samples = () if theirs is None else theirs.samples
            if [sample.name for sample in samples] != names:
                continue
            if all(head in sample.outputs for sample in samples):
                outputs = tuple(sample.outputs[head] for sample in samples)
                loss = other.report.network["loss"]
                columns.append(RunOutputs(other.report.run, loss, outputs))
        if len(columns) > 1:
            last = (final.exit, final.head)
            return SideBySide(precision, gallery, head, last, tuple(columns))
    return None

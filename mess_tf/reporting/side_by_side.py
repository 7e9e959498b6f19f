"""Fig. 8: the same images and the same early exit in networks trained differently."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mess_tf.reporting.gallery import Gallery, Head, Look
from mess_tf.reporting.records import Info, View


@dataclass(frozen=True, eq=False)
class Column:
    """What one run's early exit makes of the images, in their order."""

    run: str
    training: str
    looks: tuple[Look, ...]


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
    columns: tuple[Column, ...]


def early_head(view: View | None) -> Head | None:
    """The exit that runs are compared by: where most images could leave first."""
    return None if view is None else (view.exits[0].exit, view.exits[0].head)


def side_by_side(
    told: Sequence[tuple[Info, Mapping[str, Gallery]]],
) -> SideBySide | None:
    """Lines up runs whose galleries show the same images; None where fewer than two do.

    Args:
        told: per run its report and its galleries by precision, the first run leads.
    """
    info, galleries = told[0]
    for target in info.targets:
        head = early_head(target.featured_view)
        gallery = galleries.get(target.precision)
        if head is None or gallery is None or target.final is None:
            continue
        names = [shot.name for shot in gallery.shots]
        columns = []
        for other, own in told:
            shots = own[target.precision].shots if target.precision in own else ()
            if [shot.name for shot in shots] != names:
                continue
            if all(head in shot.looks for shot in shots):
                looks = tuple(shot.looks[head] for shot in shots)
                columns.append(Column(other.run, other.network["loss"], looks))
        if len(columns) > 1:
            final = (target.final.exit, target.final.head)
            return SideBySide(target.precision, gallery, head, final, tuple(columns))
    return None

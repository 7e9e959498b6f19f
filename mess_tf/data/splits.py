"""Splits of a data set that share nothing: training, calibration and report.

Frames of one video differ little from their neighbours, so parts are cut along groups
(sequences, scenes) or, within one group, at a single place in the order of names. Where
every image is a group of its own, images are dealt out by a hash of their names: names
often tell the year or the collection, and parts have to be alike.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mess_tf.core.errors import MessError
from mess_tf.data.sources import Joined, Selection, Source

Part = Literal["calibration", "report"]


@dataclass(frozen=True)
class SplitIndices:
    """Indices of the samples of every part, ascending; no sample is in two.

    Attributes:
        train: of the training split, for training.
        held_out: of the training split, for calibration.
        calibration: of the validation split: thresholds and search see it.
        report: of the validation split: only reported figures come from it.
    """

    train: tuple[int, ...]
    held_out: tuple[int, ...]
    calibration: tuple[int, ...]
    report: tuple[int, ...]


def split_indices(
    train: Source, val: Source, hold_out_fraction: float, calibration_fraction: float
) -> SplitIndices:
    """Cuts a training and a validation split; see ``hold_out`` and ``split_report``."""
    training, held = hold_out(train.names, train.groups, hold_out_fraction)
    calibration, report = split_report(val.names, val.groups, calibration_fraction)
    return SplitIndices(training, held, calibration, report)


def evaluation_source(
    train: Source, val: Source, parts: SplitIndices
) -> tuple[Source, tuple[Part, ...]]:
    """Everything that is evaluated, and the part of each of its samples.

    Returns:
        The held-out training samples followed by the validation split, and per sample
        ``calibration`` or ``report``.
    """
    report = set(parts.report)
    held = Selection(train, parts.held_out)
    names: list[Part] = ["calibration"] * len(held)
    names += ["report" if i in report else "calibration" for i in range(len(val))]
    return Joined([held, val]), tuple(names)


def hold_out(
    names: Sequence[str], groups: Sequence[str], fraction: float
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Takes the last contiguous part of every group, in the order of names.

    Args:
        names, groups: of the samples. If each is a group of its own, all count as one,
            in the order of their names' hashes.
        fraction: of every group, 0 to below 1; rounded to whole samples. A group keeps
            at least one sample.

    Returns:
        Indices for training and indices held out, ascending.

    Raises:
        MessError: a fraction out of range.
    """
    if not 0 <= fraction < 1:
        raise MessError(f"The hold-out fraction is {fraction}; accepted: 0 to below 1.")
    held: set[int] = set()
    blocks = list(_by_group(names, groups).values())
    if _are_single(blocks):
        blocks = [_by_hash(names)]
    for members in blocks:
        count = min(round(fraction * len(members)), len(members) - 1)
        held.update(members[len(members) - count :])
    everything = range(len(names))
    return tuple(i for i in everything if i not in held), tuple(sorted(held))


def split_report(
    names: Sequence[str], groups: Sequence[str], calibration_fraction: float
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Cuts a validation split into calibration and report.

    Several groups: the first ones, in the order of their first names, calibrate; as
    many as come closest to the fraction. One group: it is cut once. Every sample a
    group of its own: the first in the order of their names' hashes calibrate.

    Args:
        names, groups: of the samples.
        calibration_fraction: 0 to 1, both excluded.

    Returns:
        Indices for calibration and for the report, ascending; neither is empty.

    Raises:
        MessError: a fraction out of range, or fewer than two samples.
    """
    if not 0 < calibration_fraction < 1:
        raise MessError(
            f"The calibration fraction is {calibration_fraction}; accepted: above 0,"
            " below 1."
        )
    if len(names) < 2:
        raise MessError(
            f"A validation split of {len(names)} images cannot be cut into calibration"
            " and report; it needs two or more."
        )
    blocks = list(_by_group(names, groups).values())
    if _are_single(blocks):
        blocks = [[i] for i in _by_hash(names)]
    elif len(blocks) == 1:
        blocks = [[i] for i in blocks[0]]
    wanted = calibration_fraction * len(names)
    sizes = [len(block) for block in blocks]
    cut = min(range(1, len(blocks)), key=lambda k: abs(sum(sizes[:k]) - wanted))
    calibration = sorted(i for block in blocks[:cut] for i in block)
    report = sorted(i for block in blocks[cut:] for i in block)
    return tuple(calibration), tuple(report)


def _are_single(blocks: Sequence[Sequence[int]]) -> bool:
    return all(len(block) == 1 for block in blocks)


def _by_hash(names: Sequence[str]) -> list[int]:
    """Indices in an order that has nothing to do with what the names say."""
    return sorted(
        range(len(names)), key=lambda i: hashlib.sha256(names[i].encode()).digest()
    )


def _by_group(names: Sequence[str], groups: Sequence[str]) -> dict[str, list[int]]:
    """Members of every group in the order of names; groups by their first name."""
    members: dict[str, list[int]] = {}
    for index in sorted(range(len(names)), key=lambda i: names[i]):
        members.setdefault(groups[index], []).append(index)
    return members

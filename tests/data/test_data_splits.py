"""Splits share nothing, and are cut along groups or at one place."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mess_tf.core.errors import MessError
from mess_tf.data.drawn import DrawnSource
from mess_tf.data.folder import open_folder
from mess_tf.data.splits import (
    evaluation_source,
    hold_out,
    split_indices,
    split_report,
)


def named(groups: Sequence[int], order: Sequence[int]) -> tuple[list[str], list[str]]:
    """Names and groups of samples that arrive in any order."""
    return [f"g{groups[i]}_{i:03d}" for i in order], [f"g{groups[i]}" for i in order]


SETS = st.lists(st.integers(0, 4), min_size=2, max_size=40).flatmap(
    lambda groups: st.permutations(range(len(groups))).map(
        lambda order: named(groups, order)
    )
)


@given(SETS, st.floats(0, 0.99))
def test_hold_out_takes_the_end_of_every_group(
    data: tuple[list[str], list[str]], fraction: float
) -> None:
    names, groups = data
    kept, held = hold_out(names, groups, fraction)
    assert sorted(kept + held) == list(range(len(names)))
    assert list(kept) == sorted(kept) and list(held) == sorted(held)
    if len(set(groups)) == len(groups):  # every image a scene of its own
        assert kept
        assert abs(len(held) - fraction * len(names)) <= 1
        return
    for group in set(groups):
        mine = [names[i] for i in kept if groups[i] == group]
        theirs = [names[i] for i in held if groups[i] == group]
        assert mine
        assert all(a < b for a, b in itertools.product(mine, theirs))
        assert abs(len(theirs) - fraction * (len(mine) + len(theirs))) <= 1


@given(SETS, st.floats(0.01, 0.99))
def test_calibration_and_report_share_no_group_or_one_border(
    data: tuple[list[str], list[str]], fraction: float
) -> None:
    names, groups = data
    calibration, report = split_report(names, groups, fraction)
    assert calibration and report
    assert sorted(calibration + report) == list(range(len(names)))
    if len(set(groups)) > 1:
        assert not {groups[i] for i in calibration} & {groups[i] for i in report}
    else:
        assert max(names[i] for i in calibration) < min(names[i] for i in report)
        assert abs(len(calibration) - fraction * len(names)) <= 1


def test_the_number_of_groups_comes_closest_to_the_fraction() -> None:
    groups = ["a"] * 62 + ["b"] * 101 + ["c"] * 204
    names = [f"{g}{i:03d}" for i, g in enumerate(groups)]
    assert split_report(names, groups, 0.5)[0] == tuple(range(163))
    assert split_report(names, groups, 0.1)[0] == tuple(range(62))


def test_camvids_validation_split_is_one_sequence_and_is_cut_once(
    shared_data: Path,
) -> None:
    pattern = "^([^_]+)_"
    train = open_folder("train", path=shared_data / "camvid", group=pattern)
    val = open_folder("val", path=shared_data / "camvid", group=pattern)
    parts = split_indices(train, val, 0.1, 0.5)
    assert (len(parts.train), len(parts.held_out)) == (331, 6 + 10 + 20)
    assert parts.calibration == tuple(range(50)) and parts.report[-1] == 100
    source, labels = evaluation_source(train, val, parts)
    assert len(source) == 36 + 101
    assert labels.count("report") == 51
    assert labels[:36] == ("calibration",) * 36


def test_evaluation_source_loads_the_sample_that_its_name_says() -> None:
    train = DrawnSource("train", count=16, size=(32, 32), seed=1)
    val = DrawnSource("val", count=8, size=(32, 32), seed=1)
    parts = split_indices(train, val, 0.5, 0.5)
    source, labels = evaluation_source(train, val, parts)
    assert len(source) == len(labels) == len(source.names) == 8 + 8
    for i, name in enumerate(source.names):
        split, number = name.split("_")
        original = {"train": train, "val": val}[split].load(int(number))
        assert (source.load(i).image == original.image).all()
        assert split == "val" or int(number) in parts.held_out
        reported = split == "val" and int(number) in parts.report
        assert (labels[i] == "report") == reported


def test_images_of_independent_scenes_are_dealt_out_alike() -> None:
    """Names tell the year: their order must not decide who calibrates."""
    names = [f"{2007 + i // 100}_{i:06d}" for i in range(400)]
    calibration, report = split_report(names, names, 0.5)
    assert len(calibration) == len(report) == 200
    assert sorted(calibration + report) == list(range(400))
    _, held = hold_out(names, names, 0.25)
    assert len(held) == 100
    for part, expected in ((calibration, 50), (report, 50), (held, 25)):
        for year in range(4):
            count = sum(i // 100 == year for i in part)
            # Four standard deviations of drawing without replacement.
            assert abs(count - expected) < 4 * 4.4, (year, count)
    # When images are added, those that were there mostly keep their part.
    more = [*names, *(f"2011_{i:06d}" for i in range(400, 440))]
    rank = set(split_report(more, more, 0.5)[0])
    assert len(rank & set(calibration)) > 180


@pytest.mark.parametrize("fraction", [-0.1, 1.0])
def test_a_hold_out_fraction_out_of_range_is_refused(fraction: float) -> None:
    with pytest.raises(MessError, match="hold-out fraction"):
        hold_out(["a", "b"], ["g", "g"], fraction)


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_a_calibration_fraction_out_of_range_is_refused(fraction: float) -> None:
    with pytest.raises(MessError, match="calibration fraction"):
        split_report(["a", "b"], ["g", "g"], fraction)


def test_one_image_cannot_be_cut() -> None:
    with pytest.raises(MessError, match="1 images cannot be cut"):
        split_report(["a"], ["g"], 0.5)

"""Opening by kind, unions, selections, groups, colours and the cache."""

from __future__ import annotations

import pickle
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mess_tf.core.errors import MessError, UsageError
from mess_tf.data.cache import Cached
from mess_tf.data.drawn import DrawnSource
from mess_tf.data.sources import (
    Joined,
    Sample,
    Selection,
    Source,
    default_palette,
    group_names,
    open_source,
)


def drawn(split: str = "train", count: int = 6) -> DrawnSource:
    return DrawnSource(split, count=count, size=(32, 40), seed=3)


def test_open_source_knows_its_kinds() -> None:
    source: Source = open_source("drawn", "val", count=3, size=40, seed=1)
    assert source.names == ("val_00000", "val_00001", "val_00002")
    assert source.load(0).image.shape == (40, 40, 3)
    with pytest.raises(UsageError, match="'kitti' is unknown; accepted: ade20k, .*"):
        open_source("kitti", "val")


def test_selection_keeps_the_order_given() -> None:
    source = drawn()
    chosen = Selection(source, [4, 1])
    assert chosen.names == ("train_00004", "train_00001") and len(chosen) == 2
    assert chosen.groups == (source.groups[4], source.groups[1])
    np.testing.assert_array_equal(chosen.load(0).labels, source.load(4).labels)


def test_joined_refuses_names_that_occur_twice_and_other_classes() -> None:
    with pytest.raises(MessError, match="'train_00000' occurs in two"):
        Joined([drawn(), drawn()])
    other: Any = drawn("val")
    other.classes = ("a", "b")
    with pytest.raises(MessError, match="other classes"):
        Joined([drawn(), other])
    with pytest.raises(MessError, match="nothing to join"):
        Joined([])


@given(st.integers(1, 100), st.integers(1, 12))
def test_blocks_are_contiguous_even_and_as_many_as_asked(
    count: int, blocks: int
) -> None:
    names = [f"{i:03d}" for i in range(count)]
    groups = group_names(names, "", "val", blocks)
    sizes = [groups.count(g) for g in dict.fromkeys(groups)]
    assert len(sizes) == min(count, blocks)
    assert max(sizes) - min(sizes) <= 1
    assert list(groups) == sorted(groups, key=lambda g: int(g.split("block")[1]))


def test_a_pattern_without_a_bracket_gives_its_whole_match() -> None:
    assert group_names(["ab12", "cd34"], "[a-z]+", "x") == ("ab", "cd")


@pytest.mark.parametrize("classes", [2, 11, 21])
def test_default_colours_differ(classes: int) -> None:
    palette = default_palette(classes).astype(int)
    distance = np.abs(palette[:, None] - palette[None]).sum(-1)
    assert distance[~np.eye(classes, dtype=bool)].min() > 24


# --- Cache --------------------------------------------------------------------------


class Counting(DrawnSource):
    """Counts how often each sample is drawn."""

    def __init__(self, count: int) -> None:
        super().__init__("train", count=count, size=(32, 32), seed=0)
        self.loads = [0] * count

    def load(self, index: int) -> Sample:
        self.loads[index] += 1
        return super().load(index)


SAMPLE_BYTES = 32 * 32 * 4


def test_the_cache_decodes_once_within_its_limit() -> None:
    source = Counting(5)
    cached = Cached(source, limit_bytes=3 * SAMPLE_BYTES + 1)
    for _ in range(2):
        for i in range(5):
            np.testing.assert_array_equal(
                cached.load(i).image, DrawnSource.load(source, i).image
            )
    assert source.loads == [1, 1, 1, 2, 2]
    assert cached.cached_bytes == 3 * SAMPLE_BYTES
    with pytest.raises(ValueError, match="read-only"):
        cached.load(0).image[0, 0] = 0


def test_the_cache_counts_right_under_threads() -> None:
    cached = Cached(Counting(20), limit_bytes=10 * SAMPLE_BYTES)
    threads = [
        threading.Thread(target=lambda: [cached.load(i) for i in range(20)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cached.cached_bytes == 10 * SAMPLE_BYTES


def test_a_pickled_cache_is_empty_and_works() -> None:
    cached = Cached(drawn(), 1 << 20)
    before = cached.load(2).image
    small = pickle.dumps(cached)
    assert len(small) < 5000
    copy = pickle.loads(small)  # noqa: S301
    assert copy.cached_bytes == 0
    np.testing.assert_array_equal(copy.load(2).image, before)
    assert copy.cached_bytes > 0

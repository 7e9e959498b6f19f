"""Cuts of small graphs: counted by hand, and against a search over all paths."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mess_tf.models.exit_candidates import (
    CutPoint,
    DataflowGraph,
    Operation,
    cut_before_head,
    find_cut_points,
    read_operations,
    spaced_cut_points,
)
from mess_tf.models.flatten import flatten
from tests.support.imported_networks import deeplab, plain, unet


def names(operations: list[Operation], cuts: list[CutPoint]) -> dict[str, list[str]]:
    return {
        operations[c.operation].name: [operations[i].name for i in c.live] for c in cuts
    }


def test_what_passes_a_cut_of_a_unet_counted_by_hand() -> None:
    operations = read_operations(flatten(unet()))
    assert names(operations, find_cut_points(operations)) == {
        "top_relu": ["top_relu"],
        "pool1": ["top_relu", "pool1"],
        "low_relu": ["top_relu", "low_relu"],
        "pool2": ["top_relu", "low_relu", "pool2"],
        "mid_relu": ["top_relu", "low_relu", "mid_relu"],
        # The tensors that go up are joined at once: the cut is behind the join.
        "join1": ["top_relu", "join1"],
        "back1_relu": ["top_relu", "back1_relu"],
        "join2": ["join2"],
        "back2_relu": ["back2_relu"],
    }


def test_no_cut_is_inside_a_residual_block_or_between_branches() -> None:
    operations = read_operations(flatten(deeplab()))
    assert names(operations, find_cut_points(operations)) == {
        "stem_relu": ["stem_relu"],
        "low_relu": ["low_relu"],
        "r1_relu": ["low_relu", "r1_relu"],
        "res1_out": ["low_relu", "res1_out"],
        "aspp_join": ["low_relu", "aspp_join"],
        "project_relu": ["low_relu", "project_relu"],
        "decoder_join": ["decoder_join"],
        "decoder_relu": ["decoder_relu"],
        "classifier": ["classifier"],
    }


def test_macs_of_every_kind_of_layer_by_hand() -> None:
    operations = {
        operation.name: operation.macs for operation in read_operations(flatten(unet()))
    }
    assert operations["mid_conv"] == 8 * 8 * 16 * (9 * 8)
    assert operations["mid_bn"] == 2 * 8 * 8 * 16
    # Every input value meets the whole kernel: 8x8x16 values, 2x2 taps, 8 filters.
    assert operations["up1"] == 8 * 8 * 16 * (2 * 2 * 8)
    assert operations["pool1"] == operations["join1"] == 0
    small = {
        operation.name: operation.macs
        for operation in read_operations(flatten(deeplab()))
    }
    # Depthwise 3x3 over 8 channels, then 1x1 from 8 to 8.
    assert small["aspp1"] == 4 * 4 * (8 * 9 + 8 * 8)
    assert small["pool_conv"] == 8 * 8


def test_the_end_is_as_small_as_it_can_be() -> None:
    operations = read_operations(flatten(plain()))
    cuts = find_cut_points(operations)
    end = cut_before_head(cuts, near=0.0)
    assert end is not None and operations[end.operation].name == "classifier"


def test_of_near_cuts_the_one_that_hands_on_least_is_kept() -> None:
    cuts = [
        CutPoint(1, (1,), 100, 9),
        CutPoint(2, (2,), 104, 5),
        CutPoint(3, (3,), 120, 9),
    ]
    last = CutPoint(4, (4,), 200, 9)
    kept = spaced_cut_points([*cuts, last], last, near=10)
    assert [cut.operation for cut in kept] == [2, 3, 4]


@st.composite
def graphs(draw: st.DrawFn) -> list[Operation]:
    """Random graphs: each reads one or two earlier ones, all lead to the last."""
    count = draw(st.integers(3, 12))
    operations = [Operation("0", (), (16, 16), 256)]
    for i in range(1, count):
        inputs = draw(st.lists(st.integers(0, i - 1), min_size=1, max_size=2))
        side = draw(st.sampled_from((16, 8, 8, 4, 2, 1)))
        macs = draw(st.integers(0, 5))
        pointwise = draw(st.integers(0, 4)) == 0
        operations.append(
            Operation(str(i), tuple(inputs), (side, side), side**2, macs, pointwise)
        )
    unread = set(range(count - 1)) - {
        j for operation in operations for j in operation.inputs
    }
    read = tuple(sorted({*operations[-1].inputs, *unread}))
    operations[-1] = Operation(str(count - 1), read, (2, 2), 4, 1)
    return operations


def needs(operations: list[Operation], operation: int) -> set[int]:
    return {operation}.union(
        *(needs(operations, source) for source in operations[operation].inputs)
    )


@given(graphs())
def test_prefix_live_tensors_and_macs_are_what_a_search_over_paths_says(
    operations: list[Operation],
) -> None:
    flow = DataflowGraph(operations)
    for i in range(len(operations)):
        prefix = needs(operations, i)
        rest = set(range(len(operations))) - prefix
        crossing = {j for k in rest for j in operations[k].inputs if j in prefix}
        assert set(flow.live(i)) == crossing | {i}
        assert flow.macs(i) == sum(operations[j].macs for j in prefix)


@given(graphs())
def test_cuts_follow_one_another_and_are_the_coarsest_that_is_live(
    operations: list[Operation],
) -> None:
    cuts = find_cut_points(operations)
    prefixes = [needs(operations, cut.operation) for cut in cuts]
    assert all(a < b for a, b in zip(prefixes, prefixes[1:], strict=False))
    for cut, prefix in zip(cuts, prefixes, strict=True):
        grid = operations[cut.operation].grid or (0, 0)
        assert all(
            (operations[i].grid or (0, 0)) > grid
            for i in cut.live
            if i != cut.operation
        )
        # Nothing joins on the way down: walk from the cut, not up to finer grids.
        reached, todo = {cut.operation}, [cut.operation]
        while todo:
            here = todo.pop()
            for k, operation in enumerate(operations):
                if here in operation.inputs and (operation.grid or (0, 0)) <= grid:
                    outside = [
                        j
                        for j in operation.inputs
                        if cut.operation not in needs(operations, j)
                    ]
                    assert not outside, (cut.operation, k, prefix)
                    if k not in reached:
                        reached.add(k)
                        todo.append(k)

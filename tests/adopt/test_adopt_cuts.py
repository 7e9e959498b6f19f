"""Cuts of small graphs: counted by hand, and against a search over all paths."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mess_tf.models.exit_candidates import (
    Cut,
    Flow,
    Step,
    apart,
    end_cut,
    find_cuts,
    read_steps,
)
from mess_tf.models.flatten import flatten
from tests.support.imported_networks import deeplab, plain, unet


def names(steps: list[Step], cuts: list[Cut]) -> dict[str, list[str]]:
    return {steps[c.step].name: [steps[i].name for i in c.live] for c in cuts}


def test_what_passes_a_cut_of_a_unet_counted_by_hand() -> None:
    steps = read_steps(flatten(unet()))
    assert names(steps, find_cuts(steps)) == {
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
    steps = read_steps(flatten(deeplab()))
    assert names(steps, find_cuts(steps)) == {
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
    steps = {step.name: step.macs for step in read_steps(flatten(unet()))}
    assert steps["mid_conv"] == 8 * 8 * 16 * (9 * 8)
    assert steps["mid_bn"] == 2 * 8 * 8 * 16
    # Every input value meets the whole kernel: 8x8x16 values, 2x2 taps, 8 filters.
    assert steps["up1"] == 8 * 8 * 16 * (2 * 2 * 8)
    assert steps["pool1"] == steps["join1"] == 0
    small = {step.name: step.macs for step in read_steps(flatten(deeplab()))}
    # Depthwise 3x3 over 8 channels, then 1x1 from 8 to 8.
    assert small["aspp1"] == 4 * 4 * (8 * 9 + 8 * 8)
    assert small["pool_conv"] == 8 * 8


def test_the_end_is_as_small_as_it_can_be() -> None:
    steps = read_steps(flatten(plain()))
    cuts = find_cuts(steps)
    end = end_cut(cuts, near=0.0)
    assert end is not None and steps[end.step].name == "classifier"


def test_of_near_cuts_the_one_that_hands_on_least_is_kept() -> None:
    cuts = [Cut(1, (1,), 100, 9), Cut(2, (2,), 104, 5), Cut(3, (3,), 120, 9)]
    last = Cut(4, (4,), 200, 9)
    kept = apart([*cuts, last], last, near=10)
    assert [cut.step for cut in kept] == [2, 3, 4]


@st.composite
def graphs(draw: st.DrawFn) -> list[Step]:
    """Random graphs: every step reads one or two earlier ones, all lead to the last."""
    count = draw(st.integers(3, 12))
    steps = [Step("0", (), (16, 16), 256)]
    for i in range(1, count):
        inputs = draw(st.lists(st.integers(0, i - 1), min_size=1, max_size=2))
        side = draw(st.sampled_from((16, 8, 8, 4, 2, 1)))
        macs = draw(st.integers(0, 5))
        pointwise = draw(st.integers(0, 4)) == 0
        steps.append(
            Step(str(i), tuple(inputs), (side, side), side**2, macs, pointwise)
        )
    unread = set(range(count - 1)) - {j for step in steps for j in step.inputs}
    steps[-1] = Step(str(count - 1), tuple(sorted({*steps[-1].inputs, *unread})),
                     (2, 2), 4, 1)  # fmt: skip
    return steps


def needs(steps: list[Step], step: int) -> set[int]:
    return {step}.union(*(needs(steps, source) for source in steps[step].inputs))


@given(graphs())
def test_prefix_live_tensors_and_macs_are_what_a_search_over_paths_says(
    steps: list[Step],
) -> None:
    flow = Flow(steps)
    for i in range(len(steps)):
        prefix = needs(steps, i)
        rest = set(range(len(steps))) - prefix
        crossing = {j for k in rest for j in steps[k].inputs if j in prefix}
        assert set(flow.live(i)) == crossing | {i}
        assert flow.macs(i) == sum(steps[j].macs for j in prefix)


@given(graphs())
def test_cuts_follow_one_another_and_are_the_coarsest_that_is_live(
    steps: list[Step],
) -> None:
    cuts = find_cuts(steps)
    prefixes = [needs(steps, cut.step) for cut in cuts]
    assert all(a < b for a, b in zip(prefixes, prefixes[1:], strict=False))
    for cut, prefix in zip(cuts, prefixes, strict=True):
        grid = steps[cut.step].grid or (0, 0)
        assert all((steps[i].grid or (0, 0)) > grid for i in cut.live if i != cut.step)
        # Nothing joins on the way down: walk from the cut, not up to finer grids.
        reached, todo = {cut.step}, [cut.step]
        while todo:
            here = todo.pop()
            for k, step in enumerate(steps):
                if here in step.inputs and (step.grid or (0, 0)) <= grid:
                    outside = [
                        j for j in step.inputs if cut.step not in needs(steps, j)
                    ]
                    assert not outside, (cut.step, k, prefix)
                    if k not in reached:
                        reached.add(k)
                        todo.append(k)

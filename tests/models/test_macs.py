"""MACs by the paper's convention, and exit points at equal steps of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mess_tf.core.errors import MessError
from mess_tf.core.supernet_spec import HeadSpec
from mess_tf.models.exit_placement import place_exits
from mess_tf.models.macs import model_macs
from mess_tf.models.supernet import build_supernet, design_supernet
from tests.support.tiers import sampled

CLASSES = tuple(f"class{i}" for i in range(21))


@pytest.mark.parametrize(
    ("backbone", "published_g"),
    sampled([("mobilenet_v2", 8.78), ("resnet50", 138.63)], 1),
)
def test_baselines_have_the_published_macs(backbone: str, published_g: float) -> None:
    spec = design_supernet(
        backbone,
        CLASSES,
        image_size=(512, 512),
        final_heads=[HeadSpec()],
        early_heads=[],
        output_stride=8,
        exits=1,
    )
    macs_g = model_macs(build_supernet(spec, (512, 512)).model.layers) / 1e9
    # The paper cuts after two digits.
    assert published_g <= macs_g < published_g + 0.01


def test_an_exit_points_macs_are_those_of_the_backbone_up_to_it() -> None:
    spec = design_supernet(
        "mobilenet_v2",
        CLASSES,
        image_size=(64, 64),
        final_heads=[HeadSpec()],
        early_heads=[],
        exit_layers=["expanded_conv_project_BN"],
    )
    # Conv1 3x3x3->32 at 32x32, depthwise 3x3 on 32, project 32->16, and two MACs per
    # element of the three batch normalisations.
    cells = 32 * 32
    by_hand = cells * (27 * 32 + 9 * 32 + 32 * 16 + 2 * (32 + 32 + 16))
    assert spec.exit_points[0].macs == by_hand


def test_an_open_size_cannot_be_counted() -> None:
    spec = design_supernet(
        "mobilenet_v2",
        CLASSES,
        image_size=(64, 64),
        final_heads=[HeadSpec()],
        early_heads=[],
        exits=1,
    )
    with pytest.raises(MessError, match="open shape"):
        model_macs(build_supernet(spec).model.layers)


def test_exits_go_to_the_block_ends_nearest_to_equal_steps() -> None:
    assert place_exits([10, 22, 48, 52, 75, 100], 4) == (1, 2, 4, 5)


def test_no_block_end_is_used_twice() -> None:
    # All steps are nearest to the same block end.
    assert place_exits([1, 2, 3, 4, 100], 5) == (0, 1, 2, 3, 4)


@given(
    steps=st.lists(st.integers(1, 1000), min_size=1, max_size=20),
    count=st.integers(1, 20),
)
def test_exits_grow_and_end_at_the_last_block(steps: list[int], count: int) -> None:
    cumulative = [sum(steps[: i + 1]) for i in range(len(steps))]
    if count > len(steps):
        with pytest.raises(MessError, match="exit points do not fit"):
            place_exits(cumulative, count)
        return
    chosen = place_exits(cumulative, count)
    assert len(chosen) == count
    assert list(chosen) == sorted(set(chosen))
    assert chosen[-1] == len(steps) - 1

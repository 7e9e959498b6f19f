"""Which heads others are compared with."""

from __future__ import annotations

import pytest

from mess_tf.core.errors import MessError
from mess_tf.core.supernet_spec import ExitPoint, HeadSpec, Preprocessing, SupernetSpec
from mess_tf.policies.comparison_exit import (
    compared_with,
    is_reference,
    reference_exit,
    reference_exits,
    reference_head,
)

# Exit 3 has no plain head and exit 5 none at all; exit 6 is the final one.
HEADS = (
    ("fcn_r1_b0", "dlb_r1_b0"),
    ("fcn_r1_b0_s1", "dlb_r2_b0", "fcn_r1_b0"),
    ("fcn_r1_b0_s1", "fcn_r1_b0_s2"),
    ("fcn_r4_b1", "fcn_r1_b0_s1"),
    (),
    ("fcn_r1_b0",),
)
SPEC = SupernetSpec(
    backbone="tiny",
    backbone_options={},
    output_stride=8,
    image_height=32,
    image_width=32,
    classes=("a", "b"),
    ignore_label=255,
    exit_points=tuple(ExitPoint(i, f"block_{i}", 8, 8, i) for i in range(1, 7)),
    heads=tuple(tuple(HeadSpec.parse(head) for head in own) for own in HEADS),
    output_stride_of_logits=8,
    head_options={},
    preprocessing=Preprocessing(),
)


def test_the_nearest_exit_before_with_a_plain_head() -> None:
    found = [reference_exit(SPEC, k) for k in range(1, 7)]
    assert found == [None, 1, 2, 2, 4, None]
    # Nothing asks with exit 5, which has no heads.
    assert reference_exits(SPEC) == (1, 2)


def test_the_first_plain_head_is_compared_with() -> None:
    assert [reference_head(SPEC, k).id for k in (1, 2, 4)] == [
        "fcn_r1_b0",
        "dlb_r2_b0",
        "fcn_r4_b1",
    ]
    assert [name for name in SPEC.head_names() if is_reference(SPEC, *name)] == [
        (1, "fcn_r1_b0"),
        (2, "dlb_r2_b0"),
        (4, "fcn_r4_b1"),
        (6, "fcn_r1_b0"),
    ]
    with pytest.raises(MessError, match="exit 3: it has no head without skips"):
        reference_head(SPEC, 3)


def test_with_its_references_a_part_is_compared_as_the_whole() -> None:
    kept = {(2, "fcn_r1_b0"), (4, "fcn_r1_b0_s1"), (6, "fcn_r1_b0")}
    added = compared_with(SPEC, kept)
    assert added == {(1, "fcn_r1_b0"), (2, "dlb_r2_b0")}
    part = SPEC.with_heads(kept | added)
    for exit_index in (1, 2, 4, 6):
        reference = reference_exit(SPEC, exit_index)
        assert reference_exit(part, exit_index) == reference
        if reference is not None:
            assert reference_head(part, reference) == reference_head(SPEC, reference)
    assert compared_with(SPEC, [(1, "dlb_r1_b0"), (6, "fcn_r1_b0")]) == set()

"""MACs of pieces before anything is compiled."""

from __future__ import annotations

from piece_macs import piece_macs

from mess_tf.core.supernet_spec import HeadSpec
from mess_tf.models.macs import model_macs
from mess_tf.models.supernet import build_supernet, design_supernet

CLASSES = tuple(f"class{i}" for i in range(21))


def test_the_macs_of_segments_and_heads_add_up_to_the_supernets() -> None:
    spec = design_supernet(
        "mobilenet_v2",
        CLASSES,
        image_size=(64, 64),
        final_heads=[HeadSpec()],
        early_heads=[HeadSpec(), HeadSpec.parse("dlb_r2_b1_s1")],
        exits=3,
    )
    supernet = build_supernet(spec, (64, 64))
    macs = piece_macs(supernet.model, spec)
    assert sum(macs.values()) == model_macs(supernet.model.layers)
    for point in spec.exit_points:
        up_to = [macs[f"segment_{k}"] for k in range(1, point.index + 1)]
        assert sum(up_to) == point.macs
    # 320 -> 80 by 3x3, 80 -> 21 by 1x1, and a batch normalisation, at 4x4.
    by_hand = 16 * (9 * 320 * 80 + 80 * 21 + 2 * 80)
    assert macs["head_3_fcn_r1_b0"] == by_hand

"""Backbones against keras.applications; heads, skips and grids of a supernet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from mess_tf.core.errors import MessError
from mess_tf.core.supernet_spec import HeadSpec, SupernetSpec
from mess_tf.models.batch_norm import BatchNormalization
from mess_tf.models.supernet import Supernet, build_supernet, design_supernet
from mess_tf.models.weights import load_backbone_weights
from mess_tf.recipe.sections import head_space

CLASSES = ("ground", "thing", "other")


def spec_of(
    early: list[str], final: str = "fcn_r1_b0", **options: object
) -> SupernetSpec:
    return design_supernet(
        **{  # type: ignore[arg-type]
            "backbone": "mobilenet_v2",
            "classes": CLASSES,
            "image_size": (64, 96),
            "final_heads": [HeadSpec.parse(final)],
            "early_heads": [HeadSpec.parse(head) for head in early],
            "backbone_options": {"alpha": 0.35},
            "exit_layers": ["block_2_add", "block_5_add", "block_12_add"],
            "head_options": {"head_width": 16, "decoder_width": 16, "skip_width": 8},
            **options,
        }
    )


def randomise(model: keras.Model, seed: int) -> None:
    """Random weights, positive where they are variances."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        values = rng.normal(0, 0.3, weight.shape)
        weight.assign(np.abs(values) + 0.5 if "variance" in weight.path else values)


@pytest.mark.slow
def test_mobilenet_v2_is_that_of_keras_applications(tmp_path: Path) -> None:
    source = keras.applications.MobileNetV2(
        weights=None, include_top=False, alpha=0.35, input_shape=(224, 224, 3)
    )
    randomise(source, 0)
    source.save_weights(tmp_path / "w.weights.h5")
    spec = spec_of([], output_stride=32, image_size=(224, 224))
    supernet = build_supernet(spec, (224, 224))
    load_backbone_weights(supernet, str(tmp_path / "w.weights.h5"))
    image = np.random.default_rng(1).uniform(-1, 1, (1, 224, 224, 3)).astype("float32")
    theirs = keras.Model(source.input, source.get_layer("block_16_project_BN").output)
    expected = np.asarray(theirs(image, training=False))
    got = np.asarray(supernet.backbone()(image, training=False)[-1])
    assert np.abs(got - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.slow
def test_resnet_takes_over_biases_and_channel_order(tmp_path: Path) -> None:
    source = keras.applications.ResNet50(
        weights=None, include_top=False, input_shape=(64, 64, 3)
    )
    randomise(source, 0)
    source.save_weights(tmp_path / "w.weights.h5")
    spec = design_supernet(
        "resnet50",
        CLASSES,
        image_size=(64, 64),
        final_heads=[HeadSpec()],
        early_heads=[],
        # Up to here no block has a stride, so both variants are the same function.
        exit_layers=["conv2_block3_out"],
    )
    supernet = build_supernet(spec, (64, 64))
    load_backbone_weights(supernet, str(tmp_path / "w.weights.h5"))
    rgb = np.random.default_rng(1).normal(size=(1, 64, 64, 3)).astype("float32")
    theirs = keras.Model(source.input, source.get_layer("conv2_block3_out").output)
    expected = np.asarray(theirs(rgb[..., ::-1], training=False))
    got = np.asarray(supernet.backbone()(rgb, training=False)[0])
    assert np.abs(got - expected).max() <= 1e-4 * np.abs(expected).max()


def test_weights_that_are_not_there_are_told(tmp_path: Path) -> None:
    supernet = build_supernet(spec_of([]))
    with pytest.raises(MessError, match="no such file"):
        load_backbone_weights(supernet, str(tmp_path / "missing.h5"))
    (tmp_path / "broken.weights.h5").write_bytes(b"no weights")
    with pytest.raises(MessError, match="could not be loaded"):
        load_backbone_weights(supernet, str(tmp_path / "broken.weights.h5"))


@pytest.mark.parametrize("stride", [8, 16, 32])
def test_strides_beyond_the_output_stride_become_dilation(stride: int) -> None:
    spec = spec_of(
        [], output_stride=stride, image_size=(64, 64), exit_layers=[], exits=6
    )
    supernet = build_supernet(spec, (64, 64))
    last = supernet.exit_tensors()[-1]
    assert last.shape[1:3] == (64 // stride, 64 // stride)
    rate = supernet.model.get_layer("block_14_depthwise").dilation_rate
    assert rate == (32 // stride, 32 // stride)


@pytest.mark.slow
def test_the_head_space_has_56_heads_and_all_can_be_built() -> None:
    heads = head_space()
    assert len(heads) == len(set(heads)) == 56
    spec = spec_of(
        [head.id for head in heads], image_size=(32, 32), exit_layers=["block_5_add"]
    )
    model = build_supernet(spec, (32, 32)).model
    assert len(model.outputs) == 57
    assert {tuple(o.shape) for o in model.outputs[:-1]} == {(None, 4, 4, 3)}


def test_rapid_dilation_doubles_from_block_to_block() -> None:
    spec = spec_of(["fcn_r1_b3_rdi", "fcn_r1_b2"])
    model = build_supernet(spec).model
    rates = [
        model.get_layer(f"head_3_fcn_r1_b3_rdi_block{n}_depthwise").dilation_rate[0]
        for n in (1, 2, 3)
    ]
    assert rates == [2, 4, 8]
    assert model.get_layer("head_3_fcn_r1_b2_block2_depthwise").dilation_rate == (1, 1)


def test_skips_bring_a_head_to_the_finest_stride_it_reads() -> None:
    spec = spec_of(["fcn_r1_b0", "dlb_r2_b0_s2_s1", "fcn_r1_b0_s1"])
    assert [h.id for h in spec.heads[0]] == ["fcn_r1_b0"]
    assert [h.id for h in spec.heads[1]] == ["fcn_r1_b0", "fcn_r1_b0_s1"]
    supernet = build_supernet(spec, (64, 96))
    for (index, head), logits in zip(
        spec.head_names(), supernet.model.outputs, strict=True
    ):
        size = spec.head_size(index, HeadSpec.parse(head))
        assert tuple(logits.shape) == (None, *size, 3), (index, head)
    assert supernet.head_inputs(3, ["fcn_r1_b0_s1", "dlb_r2_b0_s2_s1"]) == (3, 2, 1)


def test_a_head_on_features_equals_the_whole_network() -> None:
    supernet = build_supernet(spec_of(["fcn_r1_b1", "dlb_r2_b0_s2_s1"]), (64, 96))
    randomise(supernet.model, 3)
    image = np.random.default_rng(0).normal(size=(2, 64, 96, 3)).astype("float32")
    whole = dict(
        zip(
            supernet.spec.head_names(),
            supernet.model(image, training=False),
            strict=True,
        )
    )
    features = supernet.backbone()(image, training=False)
    inputs = supernet.head_inputs(3, ["dlb_r2_b0_s2_s1"])
    cut = supernet.heads(3, ["dlb_r2_b0_s2_s1"])([features[i - 1] for i in inputs])
    np.testing.assert_allclose(cut, whole[3, "dlb_r2_b0_s2_s1"], atol=1e-4)


@pytest.mark.slow
def test_a_supernet_comes_back_from_its_folder(tmp_path: Path) -> None:
    supernet = build_supernet(spec_of(["fcn_r1_b0_s1"]))
    randomise(supernet.model, 5)
    supernet.save(tmp_path)
    again = Supernet.load(tmp_path)
    assert again.spec == supernet.spec
    for a, b in zip(supernet.model.weights, again.at_size().model.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    (tmp_path / "supernet.keras").write_bytes(b"broken")
    with pytest.raises(MessError, match="cannot be read as this supernet's weights"):
        Supernet.load(tmp_path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"backbone": "vgg"}, "'vgg' is unknown"),
        ({"output_stride": 12}, "Output stride 12"),
        ({"image_size": (65, 96)}, "multiples of 16; the nearest is 64x96"),
        ({"exit_layers": ["block_99_add"]}, "'block_99_add' is no block end"),
        (
            {"backbone_options": {"width": 2}},
            "has no option ['width']".replace("[", r"\[").replace("]", r"\]"),
        ),
        ({"early_heads": {1: [HeadSpec(skips=(1,))]}}, "must be earlier exit points"),
        ({"logits_stride": 8}, "finer than the logits' stride 8"),
        ({"final_heads": []}, "at least one head"),
    ],
)
def test_what_does_not_fit_is_told(options: dict[str, Any], words: str) -> None:
    with pytest.raises(MessError, match=words):
        spec_of(["fcn_r1_b0"], **options)


def test_fused_batch_norm_is_keras_own() -> None:
    x = np.random.default_rng(0).normal(2, 3, (4, 6, 7, 5)).astype("float32")
    ours, theirs = (
        BatchNormalization(momentum=0.9),
        keras.layers.BatchNormalization(momentum=0.9),
    )
    np.testing.assert_allclose(
        ours(x, training=True), theirs(x, training=True), atol=1e-5
    )
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    np.testing.assert_allclose(ours(x), theirs(x), atol=1e-5)
    ours.trainable = False
    before = ours.get_weights()[2].copy()
    ours(x, training=True)
    np.testing.assert_array_equal(ours.get_weights()[2], before)

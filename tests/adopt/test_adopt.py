"""What is adopted equals the original; exits, sizes and refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import mess_tf
from mess_tf.core.errors import MessError
from mess_tf.core.supernet_spec import HeadSpec, SupernetSpec
from mess_tf.models.macs import model_macs
from mess_tf.models.supernet import build_supernet
from mess_tf.models.weights import load_backbone_weights
from tests.support.imported_networks import (
    CLASSES,
    NETWORKS,
    SIZE,
    Twice,
    adopted,
    conv,
    deeplab,
    images,
    nested,
    plain,
    randomised,
    unet,
)
from tests.support.tiers import sampled

layers = keras.layers


def answers(model: keras.Model, own: Any) -> np.ndarray:
    """The adopted network's logits, treated as the original treats its own."""
    for name in ("enlarge", "softmax"):
        if name in {layer.name for layer in model.layers}:
            own = model.get_layer(name)(own)
    if getattr(model.layers[-1], "activation", keras.ops.relu).__name__ == "softmax":
        own = keras.ops.softmax(own)
    return np.asarray(own)


@pytest.mark.parametrize("name", sampled(NETWORKS, 4))
def test_the_final_exit_is_the_original_network(name: str) -> None:
    model = randomised(NETWORKS[name]())
    before = [w.copy() for w in model.get_weights()]
    expected = np.asarray(model(images(), training=False))
    supernet = adopted(model, logits_stride=1)
    logits = supernet.model(images(), training=False)[-1]
    got = answers(model, logits)
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= 1e-5 * max(1.0, np.abs(expected).max())
    assert tuple(logits.shape[1:3]) == supernet.spec.head_size(3, HeadSpec("own"))
    after = np.asarray(model(images(), training=False))
    assert (after == expected).all(), "the model that was given was changed"
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))


def test_exits_lie_where_their_macs_say() -> None:
    spec = adopted(plain(), logits_stride=2).spec
    # Convolutions and two per normalised element, of 16x16 and 8x8 cells, by hand.
    a = 16 * 16 * 4 * (9 * 3 + 2)
    b = a + 8 * 8 * 8 * (9 * 4 + 2)
    c = b + 8 * 8 * 8 * (9 * 8 + 2)
    points = [(p.layer, p.stride, p.channels, p.macs) for p in spec.exit_points]
    assert points == [
        ("a_relu", 2, 4, a),
        ("b_relu", 4, 8, b),
        ("drop", 4, 8, c),
    ]
    assert (spec.own_stride, spec.output_stride, spec.classes[-1]) == (4, 4, "class_2")


def test_a_unet_gives_exits_on_both_of_its_sides() -> None:
    spec = adopted(unet(), exits=5).spec
    layers_and_strides = [(p.layer, p.stride) for p in spec.exit_points]
    assert layers_and_strides == [
        ("top_relu", 1),
        ("low_relu", 2),
        ("mid_relu", 4),
        ("back1_relu", 2),
        ("back2_relu", 1),
    ]
    assert spec.output_stride == 4


def test_named_exit_layers_and_a_wrong_one() -> None:
    spec = adopted(unet(), exit_layers=["mid_relu"]).spec
    assert [p.layer for p in spec.exit_points] == ["mid_relu", "back2_relu"]
    with pytest.raises(MessError, match="'low_conv' is no block end.*low_relu"):
        adopted(unet(), exit_layers=["low_conv"])


@pytest.mark.slow
def test_heads_read_skips_on_finer_grids_only() -> None:
    early = [HeadSpec.parse(head) for head in ("fcn_r1_b1", "fcn_r1_b0_s1")]
    spec = adopted(unet(), exits=5, early_heads=early).spec
    assert [[h.id for h in heads] for heads in spec.heads] == [
        ["fcn_r1_b1"],
        ["fcn_r1_b1", "fcn_r1_b0_s1"],
        ["fcn_r1_b1", "fcn_r1_b0_s1"],
        ["fcn_r1_b1", "fcn_r1_b0_s1"],
        ["own"],
    ]
    coarser = {4: [HeadSpec.parse("fcn_r1_b0_s3")]}
    with pytest.raises(MessError, match="fcn_r1_b0_s3 cannot sit at exit 4"):
        adopted(unet(), exits=5, early_heads=coarser)


@pytest.mark.parametrize("name", ["unet", "nested"])
def test_a_network_without_a_size_inside_works_at_any(name: str) -> None:
    model = randomised(NETWORKS[name]())
    supernet = adopted(model)
    assert supernet.spec.backbone_options["size"] is None
    at_64 = supernet.at_size(64, 64).model(images(1, 64), training=False)[-1]
    assert at_64.shape[1:3] == (64 // (supernet.spec.own_stride or 0),) * 2


def test_a_size_inside_binds_the_network_to_it() -> None:
    supernet = adopted(deeplab())
    assert supernet.spec.backbone_options["size"] == [SIZE, SIZE]
    assert supernet.model.input.shape[1:3] == (SIZE, SIZE)
    with pytest.raises(MessError, match="works only at"):
        supernet.at_size(64, 64)


@pytest.mark.slow
def test_structure_and_weights_survive_the_run_folder(tmp_path: Path) -> None:
    model = randomised(nested())
    supernet = adopted(model)
    supernet.save(tmp_path)
    loaded = type(supernet).load(tmp_path)
    assert SupernetSpec.load(tmp_path / "supernet.json") == loaded.spec
    expected = np.asarray(supernet.model(images(), training=False)[-1])
    got = np.asarray(loaded.model(images(), training=False)[-1])
    assert (got == expected).all()


def test_weights_come_from_the_file_and_from_no_other_network(tmp_path: Path) -> None:
    model = randomised(plain())
    model.save(tmp_path / "plain.keras")
    supernet = build_supernet(adopted(plain(), logits_stride=2).spec)
    load_backbone_weights(supernet, str(tmp_path / "plain.keras"))
    kernel = supernet.model.get_layer("classifier").get_weights()[0]
    assert (kernel == model.get_layer("classifier").get_weights()[0]).all()
    unet().save(tmp_path / "unet.keras")
    with pytest.raises(MessError, match="another network"):
        load_backbone_weights(supernet, str(tmp_path / "unet.keras"))
    with pytest.raises(MessError, match="No network at"):
        load_backbone_weights(supernet, str(tmp_path / "none.keras"))


def test_own_layers_are_opened_so_that_the_file_needs_none(tmp_path: Path) -> None:
    model = randomised(nested())
    model.save(tmp_path / "own.keras")
    supernet = build_supernet(adopted(plain(), logits_stride=2).spec)
    with pytest.raises(MessError, match="flattened in Python first"):
        load_backbone_weights(supernet, str(tmp_path / "own.keras"))
    mess_tf.flatten(model).save(tmp_path / "flat.keras")
    flat = keras.saving.load_model(tmp_path / "flat.keras")
    expected = np.asarray(model(images(), training=False))
    assert np.abs(np.asarray(flat(images(), training=False)) - expected).max() < 1e-5


def test_features_get_an_end_of_ours() -> None:
    model = plain()
    body = keras.Model(model.input, model.get_layer("head_1_relu").output)
    heads = [HeadSpec("dlb")]
    with pytest.raises(MessError, match="name the classes"):
        adopted(body, final_heads=heads)
    with pytest.raises(MessError, match="no final head is 'own'"):
        adopted(model, final_heads=heads, classes=["x", "y", "z"])
    spec = adopted(body, final_heads=heads, classes=["x", "y"], logits_stride=2).spec
    assert spec.exit_points[-1].layer == "head_1_relu"
    assert spec.final_head.id == "dlb_r1_b0" and spec.own_stride is None


def test_a_sum_of_paths_needs_an_enlargement_as_its_end() -> None:
    def lraspp(*, enlarged: bool) -> keras.Model:
        image = keras.Input((SIZE, SIZE, 3))
        low = conv(image, 4, "low", strides=2)
        deep = conv(conv(low, 8, "b", strides=2), 16, "deep")
        up = layers.UpSampling2D(2, name="up")(layers.Conv2D(CLASSES, 1)(deep))
        x = layers.Add(name="sum")([up, layers.Conv2D(CLASSES, 1)(low)])
        if enlarged:
            x = layers.UpSampling2D(2, interpolation="bilinear", name="last")(x)
        return keras.Model(image, x, name="lraspp")

    spec = adopted(lraspp(enlarged=True)).spec
    assert spec.exit_points[-1].layer == "sum"
    assert (spec.exit_points[-1].stride, spec.own_stride) == (2, 1)
    with pytest.raises(MessError, match="'sum'.*joins"):
        adopted(lraspp(enlarged=False))


# --- Refusals: the layer's name and the reason --------------------------------------


def ending(*makers: Any, start: Any = None) -> keras.Model:
    image = keras.Input((SIZE, SIZE, 3)) if start is None else start
    x = conv(image, 4, "a", strides=2)
    for make in makers:
        x = make(x)
    return keras.Model(image, x, name="net")


class Scale(keras.layers.Layer):
    def build(self, shape: Any) -> None:
        self.scale = self.add_weight(shape=(shape[-1],), name="scale")

    def call(self, inputs: Any) -> Any:
        return inputs * self.scale


class Looking(keras.layers.Layer):
    def call(self, inputs: Any) -> Any:
        return inputs if float(inputs[0, 0, 0, 0]) > 0 else -inputs

    def compute_output_shape(self, shape: Any) -> Any:
        return shape


shared = layers.Conv2D(4, 3, padding="same", name="shared")
last = layers.Conv2D(CLASSES, 1, name="last")
REFUSED = {
    "'code' (Lambda) cannot be adopted: a Lambda": lambda: ending(
        layers.Lambda(lambda x: x * 2, name="code"), last
    ),
    "'shared' (Conv2D) cannot be adopted: it is called twice": lambda: ending(
        shared, shared, last
    ),
    "'scale' (Scale) cannot be adopted: it holds weights itself": lambda: ending(
        Scale(name="scale"), last
    ),
    "'looking' (Looking) cannot be adopted: its call is not": lambda: ending(
        Looking(name="looking"), last
    ),
    "'rows' (LSTM) cannot be adopted: a recurrent layer": lambda: ending(
        layers.Reshape((16, 64)), layers.LSTM(8, name="rows")
    ),
    "'attention' (MultiHeadAttention) cannot be adopted: its multiply": lambda: ending(
        lambda x: layers.MultiHeadAttention(1, 4, name="attention")(x, x), last
    ),
    "'turned' (RandomRotation) cannot be adopted: it varies the image": lambda: ending(
        layers.RandomRotation(0.1, name="turned"), last
    ),
    "'half' (Conv2D) cannot be adopted: it computes in float16": lambda: ending(
        layers.Conv2D(4, 1, dtype="mixed_float16", name="half")
    ),
    "ends in 'classes' with the shape (None, 3)": lambda: ending(
        layers.GlobalAveragePooling2D(), layers.Dense(CLASSES, name="classes")
    ),
    "ends in 'mask' with the shape (None, 16, 16, 1)": lambda: ending(
        layers.Conv2D(1, 1, activation="sigmoid", name="mask")
    ),
    "takes (None, 32, 32, 1)": lambda: ending(start=keras.Input((SIZE, SIZE, 1))),
    "takes images of any size": lambda: ending(start=keras.Input((None, None, 3))),
    "has 2 outputs (a_relu, last)": lambda: two_outputs(),
    "(Sequential) is not functional": lambda: keras.Sequential([last]),
    "'valid' (Conv2D) of 'net' cannot be the end": lambda: ending(
        layers.Conv2D(4, 3, name="valid", strides=3)
    ),
    "'erfinv' (Erfinv) cannot be adopted: the network": lambda: ending(
        keras.ops.erfinv, layers.Conv2D(CLASSES, 1)
    ),
}  # fmt: skip


def two_outputs() -> keras.Model:
    model = ending(layers.Conv2D(CLASSES, 1, name="last"))
    return keras.Model(model.input, [model.get_layer("a_relu").output, model.output])


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_be_adopted_is_named_with_the_reason(words: str) -> None:
    with pytest.raises(MessError) as refused:
        adopted(REFUSED[words](), exits=1)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_classes_must_be_as_many_as_logits() -> None:
    with pytest.raises(MessError, match="gives 3 logits per cell; there are 2 classes"):
        adopted(plain(), classes=["x", "y"])


# Per level, from the top: a residual block, the way back up, what the skip does there.
LEVELS = st.lists(
    st.tuples(
        st.booleans(),
        st.sampled_from(("bilinear", "transposed")),
        st.sampled_from(("none", "sum", "join")),
    ),
    min_size=1,
    max_size=2,
)


def encoder_decoder(
    levels: list[tuple[bool, str, str]], *, softmax: bool
) -> keras.Model:
    image = keras.Input((SIZE, SIZE, 3))
    x, skips = image, []
    for level, (residual, _, _) in enumerate(levels):
        x = conv(x, 4, f"down{level}", strides=2)
        if residual:
            x = conv(x, 4, f"inner{level}") + x
        skips.append(x)
    x = conv(x, 4, "deep", strides=2)
    for level, (_, up, kind) in reversed(list(enumerate(levels))):
        if up == "bilinear":
            x = layers.UpSampling2D(2, interpolation="bilinear")(x)
        else:
            x = layers.Conv2DTranspose(4, 2, 2)(x)
        if kind == "sum":
            x = layers.Add()([x, skips[level]])
        elif kind == "join":
            x = layers.Concatenate()([x, layers.Conv2D(2, 1)(skips[level])])
        x = conv(x, 4, f"up{level}")
    x = layers.Conv2D(CLASSES, 1, activation="softmax" if softmax else None)(x)
    return keras.Model(image, x, name="random")


@pytest.mark.slow
# Shrinking would build networks for minutes: what failed is small enough to read.
@settings(max_examples=3, phases=[Phase.explicit, Phase.generate])
@given(LEVELS, st.booleans(), st.integers(1, 3))
def test_any_encoder_and_decoder_is_adopted_unchanged(
    levels: list[tuple[bool, str, str]], softmax: bool, exits: int
) -> None:
    model = randomised(encoder_decoder(levels, softmax=softmax))
    supernet = adopted(model, exits=exits, logits_stride=1)
    *_, logits = keras.tree.flatten(supernet.model(images(), training=False))
    got = answers(model, logits)
    expected = np.asarray(model(images(), training=False))
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= 1e-5 * max(1.0, np.abs(expected).max())
    macs = [point.macs for point in supernet.spec.exit_points]
    assert len(macs) == exits and macs == sorted(set(macs))
    assert macs[-1] + 16 * 16 * 4 * CLASSES == model_macs(model.layers)


def test_a_weightless_layer_may_be_shared() -> None:
    relu = layers.ReLU(name="relu")
    model = ending(relu, layers.Conv2D(4, 1), relu, layers.Conv2D(CLASSES, 1))
    randomised(model)
    got = adopted(model, exits=1).model(images(), training=False)
    assert np.abs(np.asarray(got) - np.asarray(model(images()))).max() < 1e-5


def test_an_opened_layer_stands_alone() -> None:
    names = [layer.name for layer in mess_tf.flatten(nested()).layers]
    assert "inner_first" in names and "twice" not in names
    assert not any(
        isinstance(layer, Twice) for layer in mess_tf.flatten(nested()).layers
    )
    assert len(set(names)) == len(names) and "a_conv" in names

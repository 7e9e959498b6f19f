from __future__ import annotations

import numpy as np
import pytest

from mess_tf.core.errors import UsageError
from mess_tf.core.pieces import TensorInfo
from mess_tf.core.precisions import Precision
from mess_tf.core.supernet_spec import Preprocessing
from mess_tf.data.augment import evaluation_image
from mess_tf.exporting.model_io import add_image, folds_pixels
from mess_tf.exporting.options import ExportForm, IoType
from mess_tf.flatbuffer.graph_builder import ModelBuilder
from mess_tf.flatbuffer.reader import Graph, read_model
from mess_tf.runtime.interpreter import LiteRTFile, quantise

MOBILE = Preprocessing()
CAFFE = Preprocessing((123.68, 116.779, 103.939), (1.0, 1.0, 1.0))
TORCH = Preprocessing((123.7, 116.3, 103.5), (58.4, 57.1, 57.4))
# Every pixel value once per channel.
PIXELS = np.stack([np.arange(256), np.arange(256), np.arange(256)[::-1]], -1)
PIXELS = PIXELS.reshape(16, 16, 3).astype(np.uint8)
SHAPE = (1, 16, 16, 3)
MOBILE_INT8 = TensorInfo("image", SHAPE, "int8", float(np.float32(1 / 127.5)), -1)


def _int8_image(preprocessing: Preprocessing) -> TensorInfo:
    mean, std = np.array(preprocessing.mean), np.array(preprocessing.std)
    low, high = (-mean / std).min(), ((255 - mean) / std).max()
    scale = float(np.float32((high - low) / 255))
    return TensorInfo("image", SHAPE, "int8", scale, round(-128 - low / scale))


def _front(
    own: TensorInfo, wanted: IoType | None, preprocessing: Preprocessing
) -> tuple[LiteRTFile, Graph]:
    """A file of nothing but what stands before the first segment, and twice that."""
    builder = ModelBuilder()
    graph = builder.add_graph("main")
    inside = add_image(graph, own, wanted, preprocessing)
    graph.rename(inside, "inside")
    graph.outputs = [inside]
    content = builder.finish()
    return LiteRTFile(content), Graph(read_model(content, "test"))


def _operators(graph: Graph) -> list[str]:
    return [graph.operator_name(i) for i in range(len(graph.operators))]


def test_pixels_are_one_quantize_where_the_steps_are_pixels() -> None:
    assert folds_pixels(MOBILE_INT8, MOBILE)
    file, graph = _front(MOBILE_INT8, "uint8", MOBILE)
    assert _operators(graph) == ["QUANTIZE"]
    (inside,) = file.run({"image": PIXELS[None]}).values()
    np.testing.assert_array_equal(inside[0], PIXELS.astype(int) - 128)
    # Which is the nearest int8 value of the normalised image, ties going up.
    image = evaluation_image(PIXELS, 16, 16, MOBILE)
    np.testing.assert_array_equal(inside[0], quantise(image, MOBILE_INT8))


@pytest.mark.parametrize(
    ("scale", "zero_point"), [(1 / 127.5, 1), (1.9 / 255, -1), (1 / 120, -1)]
)
def test_other_steps_do_not_fold(scale: float, zero_point: int) -> None:
    info = TensorInfo("image", SHAPE, "int8", scale, zero_point)
    assert not folds_pixels(info, MOBILE)
    assert not folds_pixels(_int8_image(CAFFE), CAFFE)
    assert not folds_pixels(TensorInfo("image", SHAPE, "float32"), MOBILE)


@pytest.mark.parametrize("preprocessing", [CAFFE, TORCH], ids=["caffe", "torch"])
def test_int8_pixels_otherwise_take_one_affine_operator(
    preprocessing: Preprocessing,
) -> None:
    own = _int8_image(preprocessing)
    file, graph = _front(own, "uint8", preprocessing)
    assert _operators(graph) == ["QUANTIZE", "DEPTHWISE_CONV_2D"]
    assert not [
        i for i in range(len(graph.tensors)) if graph.info(i).dtype == "float32"
    ]
    (inside,) = file.run({"image": PIXELS[None]}).values()
    exact = evaluation_image(PIXELS, 16, 16, preprocessing)
    expected = quantise(exact, own).astype(int)
    assert np.abs(inside[0] - expected).max() <= 1
    assert (inside[0] == expected).mean() > 0.95


@pytest.mark.parametrize(
    "preprocessing", [MOBILE, CAFFE, TORCH], ids=["mobile", "caffe", "torch"]
)
def test_float_pixels_take_one_affine_operator(preprocessing: Preprocessing) -> None:
    own = TensorInfo("image", SHAPE, "float32")
    file, graph = _front(own, "uint8", preprocessing)
    assert _operators(graph) == ["DEQUANTIZE", "DEPTHWISE_CONV_2D"]
    (inside,) = file.run({"image": PIXELS[None]}).values()
    exact = evaluation_image(PIXELS, 16, 16, preprocessing)
    np.testing.assert_allclose(inside[0], exact, atol=1e-6 * np.abs(exact).max())


def test_a_float_image_of_pixels_becomes_the_same_int8_image() -> None:
    file, graph = _front(MOBILE_INT8, "float32", MOBILE)
    assert _operators(graph) == ["ADD", "QUANTIZE"]
    image = evaluation_image(PIXELS, 16, 16, MOBILE)
    for noise in (0, 1e-6, -1e-6):  # of another library's normalisation
        (inside,) = file.run({"image": image[None] + np.float32(noise)}).values()
        np.testing.assert_array_equal(inside[0], PIXELS.astype(int) - 128)


@pytest.mark.parametrize(
    ("form", "precision", "classes", "told"),
    [
        (ExportForm(input="int8"), "float16", 5, "--input int8 needs int8 pieces"),
        (ExportForm(output="uint8"), "dynamic", 5, "--output uint8 needs int8"),
        (ExportForm(output="int8", answer="classes"), "int8", 5, "type of logits"),
        (ExportForm(answer="both"), "int8", 300, "300 classes do not fit"),
        (ExportForm("single", threshold_input=True), "int8", 5, "--threshold-input"),
        (ExportForm("stages", exit_signatures=True), "int8", 5, "--exit-signatures"),
    ],
)
def test_parts_that_do_not_go_together_are_refused(
    form: ExportForm, precision: Precision, classes: int, told: str
) -> None:
    with pytest.raises(UsageError, match=told):
        form.check(precision, classes)


def test_names_of_exports_tell_forms_apart() -> None:
    forms = [
        ExportForm(),
        ExportForm("stages"),
        ExportForm(input="uint8"),
        ExportForm(output="uint8"),
        ExportForm(answer="both", resolution="image"),
        ExportForm(threshold_input=True),
        ExportForm(exit_signatures=True),
    ]
    suffixes = [form.suffix for form in forms]
    assert suffixes[0] == "" and len(set(suffixes)) == len(forms)
    assert all(s == "" or s.startswith("_") for s in suffixes)

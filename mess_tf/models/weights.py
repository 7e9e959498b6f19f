"""Backbone weights: from keras.applications, from a file, a network's own, random."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np

from mess_tf.core.errors import MessError
from mess_tf.models.flatten import flatten
from mess_tf.models.imported_network import ADOPTED, copy_weights, open_model
from mess_tf.models.supernet import Supernet

APPLICATIONS = {
    "mobilenet_v2": "MobileNetV2",
    "resnet50": "ResNet50",
    "resnet101": "ResNet101",
}


def load_backbone_weights(supernet: Supernet, weights: str) -> None:
    """Fills the backbone of ``supernet``; heads keep their random start.

    An adopted network is filled from its own file, its own end too.

    Layers are matched by name with keras.applications' model of the same name. Its
    ResNets have biases on their convolutions and take BGR images: a bias is moved into
    the batch normalisation behind it, and the first kernel's channels are turned round.
    The stride of a ResNet block sits on the 3x3 convolution here and on the first 1x1
    there; the weights fit both.

    Args:
        supernet: as built.
        weights: ``random``, ``imagenet`` (downloaded by keras.applications), or the
            path of a weights file of keras.applications' model without top; of an
            adopted network the path of its ``.keras`` file.

    Raises:
        MessError: unknown word, no such file, download refused, or shapes that differ.
    """
    if weights == "random":
        return
    spec = supernet.spec
    if spec.backbone == ADOPTED:
        size = (spec.image_height, spec.image_width)
        flat = flatten(open_model(Path(weights)), size)
        copy_weights(flat, supernet.model, spec.backbone_options)
        return
    if weights != "imagenet" and not Path(weights).is_file():
        raise MessError(
            f"Weights {weights!r}: no such file; accepted are 'imagenet', 'random' or"
            " the path of a keras.applications weights file without top."
        )
    arguments: dict[str, Any] = dict(spec.backbone_options)
    try:
        source = getattr(keras.applications, APPLICATIONS[spec.backbone])(
            weights=weights,
            include_top=False,
            input_shape=(224, 224, 3),
            **arguments,
        )
    except Exception as error:
        # keras.applications raises bare Exception on a failed download.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MessError(
            f"Weights {weights!r} of {spec.backbone} could not be loaded: {reason}."
            " Give a file by --weights (network.weights of the recipe), or 'random'."
        ) from error
    for layer in supernet.backbone().layers:
        if layer.weights:
            _copy(source, layer)
    if spec.backbone.startswith("resnet"):
        first = supernet.model.get_layer("conv1_conv")
        first.set_weights([first.get_weights()[0][:, :, ::-1, :]])


def _copy(source: Any, layer: Any) -> None:
    try:
        values = source.get_layer(layer.name).get_weights()
    except ValueError as error:
        raise MessError(
            f"The weights have no layer {layer.name!r}: they are not this backbone's."
        ) from error
    if isinstance(layer, keras.layers.BatchNormalization):
        bias = _bias_before(source, layer.name)
        if bias is not None:
            gamma, beta, mean, variance = values
            values = [gamma, beta, mean - bias, variance]
    elif len(values) == len(layer.weights) + 1:
        values = values[:-1]  # the bias: folded into the batch normalisation
    expected = [tuple(w.shape) for w in layer.weights]
    if [v.shape for v in values] != expected:
        raise MessError(
            f"Weights of layer {layer.name!r} have shapes {[v.shape for v in values]};"
            f" this network needs {expected}."
        )
    layer.set_weights(values)


def _bias_before(source: Any, bn_name: str) -> np.ndarray | None:
    if not bn_name.endswith("_bn"):
        return None
    convolution = source.get_layer(bn_name.removesuffix("_bn") + "_conv")
    return convolution.get_weights()[1] if convolution.use_bias else None

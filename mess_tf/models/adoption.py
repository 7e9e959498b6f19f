"""Adopts a network of the user's own: any functional Keras model becomes a supernet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from mess_tf.core.errors import MessError
from mess_tf.core.supernet_spec import HeadSpec, Preprocessing, SupernetSpec
from mess_tf.models.flatten import flatten
from mess_tf.models.imported_network import ADOPTED, copy_weights, network_options
from mess_tf.models.supernet import Supernet, build_supernet, design_supernet


def adopt(
    model: keras.Model,
    *,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    classes: Sequence[str] | None = None,
    image_size: tuple[int, int] | None = None,
    exits: int = 6,
    exit_layers: Sequence[str] = (),
    final_heads: Sequence[HeadSpec] = (HeadSpec("own"),),
    early_heads: Sequence[HeadSpec] | Mapping[int, Sequence[HeadSpec]] = (HeadSpec(),),
    head_options: Mapping[str, Any] | None = None,
    logits_stride: int | None = None,
) -> Supernet:
    """Makes a supernet of a functional Keras model, with its weights.

    Exit points are placed at equal steps of the network's MACs, where it can be cut.
    Nothing of the network is changed: the final exit with head ``own`` gives the
    original's logits. The model that is given stays as it is.

    Args:
        model: one RGB image in, one map out: logits (or their softmax, or either
            enlarged bilinearly), or features. Nested models are opened.
        mean, std: the network's input is (RGB value in 0..255 - mean) / std.
        classes: names in label order; None numbers the network's own.
        image_size: (height, width) in pixels of the deployed network's input; None is
            the model's own.
        exits: exit points, the final one included.
        exit_layers: layers to put exits at instead; the final one is added.
        final_heads: of the final exit; a network that ends in features takes others
            than ``own``, e.g. ``HeadSpec("dlb")``.
        early_heads: of early exits; as for ``design_supernet``.
        head_options: overrides of head widths and ASPP rates.
        logits_stride: stride of the grid on which all exits' logits leave; None is that
            of the network's own logits, or 4.

    Returns:
        The supernet, of any image size where the network works at any; early heads are
        randomly initialised.

    Raises:
        MessError: the network cannot be adopted: the layer's name and the reason; or
            settings that do not fit it.
    """
    flat = flatten(model, image_size)
    spec = design_adopted(
        flat,
        Preprocessing(mean, std),
        classes,
        exits=exits,
        exit_layers=exit_layers,
        final_heads=final_heads,
        early_heads=early_heads,
        head_options=head_options,
        logits_stride=logits_stride,
    )
    supernet = build_supernet(spec)
    copy_weights(flat, supernet.model, spec.backbone_options)
    return supernet


def design_adopted(
    flat: keras.Model,
    preprocessing: Preprocessing,
    classes: Sequence[str] | None,
    *,
    final_heads: Sequence[HeadSpec],
    exits: int,
    exit_layers: Sequence[str],
    logits_stride: int | None,
    **others: Any,
) -> SupernetSpec:
    """Lays out the supernet of a flat network; arguments as for ``adopt``."""
    own_end = HeadSpec("own") in final_heads
    if not own_end and classes is not None and flat.output.shape[-1] == len(classes):
        raise MessError(
            f"Model {flat.name!r} ends in {len(classes)} channels, as many as there are"
            " classes, and no final head is 'own'. Keep its end (final head 'own'), or"
            " end the model in features."
        )
    options = network_options(
        flat,
        preprocessing,
        own_end=own_end,
        exits=None if exit_layers else exits,
        logits_stride=logits_stride,
    )
    own_classes = options.get("classes")
    if classes is None and own_classes is None:
        raise MessError(
            f"Model {flat.name!r} ends in features; name the classes for its new heads."
        )
    names = [f"class_{i}" for i in range(own_classes or 0)]
    names = names if classes is None else list(classes)
    if own_classes not in (None, len(names)):
        raise MessError(
            f"Model {flat.name!r} gives {own_classes} logits per cell; there are"
            f" {len(names)} classes. Give its end as many channels, or end it in"
            " features and take another final head than 'own'."
        )
    if keras.backend.backend() == "tensorflow":
        from mess_tf.converting.convertibility import try_conversion

        try_conversion(flat)
    height, width = flat.inputs[0].shape[1:3]
    return design_supernet(
        ADOPTED,
        names,
        image_size=(height, width),
        final_heads=final_heads,
        backbone_options=options,
        output_stride=options["coarsest"],
        exits=exits,
        exit_layers=exit_layers,
        logits_stride=logits_stride or options["end_stride"] or 4,
        **others,
    )

"""MACs and parameters of every single-exit baseline, beside the published ones.

    python benchmarks/baseline_sizes.py

At 512x512 with 21 classes as in the paper's tables (MACs of convolutions and two per
element of a batch normalisation); Auto-DeepLab at 1024x2048 with 19 classes as in its
own, with its MACs both our way and the way its authors' framework ran it.
"""

from __future__ import annotations

import math
from typing import Any

from mess_tf.core.tensorflow_environment import set_tensorflow_defaults

set_tensorflow_defaults()

import keras
from published_networks import authors_macs, auto_deeplab_network

from mess_tf.core.supernet_spec import HeadSpec
from mess_tf.models.auto_deeplab import FILTERS
from mess_tf.models.macs import model_macs
from mess_tf.models.supernet import build_supernet, design_supernet

SIZE = (512, 512)
CLASSES = tuple(f"class{i}" for i in range(21))
ALPHAS = (0.35, 0.5, 0.75, 1.0, 1.4)
STRIDES = (8, 16, 32)
# Of GMACs: the authors' poster. Of Auto-DeepLab: its paper, millions of parameters and
# billions of multiply-adds.
PUBLISHED_G = {("resnet50", "fcn", 8): 138.63, ("mobilenet_v2", "fcn", 8): 8.78}
PUBLISHED_AUTO = {
    "auto_deeplab_s": (10.15, 333.25),
    "auto_deeplab_m": (21.62, 460.93),
    "auto_deeplab_l": (44.42, 695.03),
}


def main() -> None:
    print("| network | output stride | parameters | GMACs | published |")
    print("|---|---|---|---|---|")
    for backbone in ("resnet50", "resnet101", "mobilenet_v2"):
        for kind in ("fcn", "dlb"):
            for stride in STRIDES:
                row(backbone, kind, stride)
    row("mobilenet_v2", "dlb", 16, width=256)
    for alpha in ALPHAS:
        if alpha != 1.0:
            row("mobilenet_v2", "fcn", 8, alpha=alpha)
    for name in FILTERS:
        network = auto_deeplab_network(name, (1024, 2048), classes=19)
        parameters, published_g = PUBLISHED_AUTO[name]
        print(
            f"| {name} | 8 | {millions(network)} | {g(model_macs(network.layers))};"
            f" {g(authors_macs(network))} their way | {parameters:.2f} M,"
            f" {published_g:.2f} |",
            flush=True,
        )
        keras.utils.clear_session()


def row(
    backbone: str,
    kind: str,
    stride: int,
    alpha: float = 1.0,
    width: int | None = None,
) -> None:
    """Prints one network of the paper's kinds."""
    spec = design_supernet(
        backbone,
        CLASSES,
        image_size=SIZE,
        final_heads=[HeadSpec.parse(f"{kind}_r1_b0")],
        early_heads=[],
        backbone_options={} if alpha == 1.0 else {"alpha": alpha},
        output_stride=stride,
        exits=1,
        head_options={} if width is None else {"head_width": width},
    )
    model = build_supernet(spec, SIZE).model
    end = {"fcn": "FCN", "dlb": "DeepLabV3"}[kind]
    if kind == "dlb":
        end += f" {spec.head_options['head_width']} wide"
    name = backbone if alpha == 1.0 else f"{backbone} x{alpha:g}"
    macs = model_macs(model.layers)
    published = PUBLISHED_G.get((name, kind, stride))
    print(
        f"| {name} + {end} | {stride} | {millions(model)} | {g(macs)}"
        f" | {'' if published is None else published} |",
        flush=True,
    )
    keras.utils.clear_session()


def millions(model: Any) -> str:
    """Trained parameters."""
    count = sum(math.prod(w.shape) for w in model.trainable_weights)
    return f"{count / 1e6:.2f} M"


def g(macs: int) -> str:
    return f"{macs / 1e9:.2f}"


if __name__ == "__main__":
    main()

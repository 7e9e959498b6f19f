"""Random small networks are cut, linked and run, and stay themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mess_tf.compiling.pieces import compile_supernet
from mess_tf.compiling.verify import compare_linked, compare_pieces
from mess_tf.core.configuration import Configuration, ExitChoice
from mess_tf.core.pieces import Pieces
from mess_tf.core.precisions import CONVERTED, Precision
from mess_tf.core.supernet_spec import HeadSpec, SupernetSpec
from mess_tf.exporting.linking import link_configuration
from mess_tf.exporting.options import ExportForm
from mess_tf.exporting.staged_export import link_stages
from mess_tf.models.supernet import Supernet, build_supernet, design_supernet
from mess_tf.policies.confidence import confidence_numpy
from mess_tf.policies.registry import Policy
from mess_tf.runtime.linked_model import LinkedModel
from mess_tf.runtime.piece_runner import PieceRunner
from mess_tf.runtime.stage_plan import StagedModel

SIZE = (64, 64)
BLOCKS = ["block_2_add", "block_5_add", "block_9_add", "block_12_add"]
POLICIES = ["mean", "eq7@0.4", "eq7+9@0.4", "entropy"]


def _head(data: st.DataObject, exit_index: int) -> HeadSpec:
    blocks = data.draw(st.integers(0, 1), "blocks")
    skips = data.draw(st.sets(st.integers(1, 4), max_size=2), "skips")
    return HeadSpec(
        kind=data.draw(st.sampled_from(["fcn", "dlb"]), "kind"),
        reduction=data.draw(st.sampled_from([1, 2, 4]), "reduction"),
        blocks=blocks,
        rapid_dilation=bool(blocks) and data.draw(st.booleans(), "rapid"),
        skips=tuple(sorted((s for s in skips if s < exit_index), reverse=True)),
    )


def _supernet(data: st.DataObject) -> Supernet:
    layers = sorted(
        data.draw(st.sets(st.sampled_from(BLOCKS), min_size=1, max_size=3), "exits"),
        key=BLOCKS.index,
    )
    early = {k: [_head(data, k)] for k in range(1, len(layers) + 1)}
    spec = design_supernet(
        "mobilenet_v2",
        ["a", "b", "c"][: data.draw(st.integers(2, 3), "classes")],
        image_size=SIZE,
        final_heads=[_head(data, len(layers) + 1)],
        early_heads=early,
        backbone_options={"alpha": data.draw(st.sampled_from([0.35, 0.5]), "alpha")},
        output_stride=data.draw(st.sampled_from([8, 16, 32]), "stride"),
        exit_layers=layers,
        head_options={"head_width": 8, "decoder_width": 8, "skip_width": 8},
        logits_stride=4,
    )
    supernet = build_supernet(spec)
    rng = np.random.default_rng(data.draw(st.integers(0, 9), "seed"))
    for layer in supernet.model.layers:
        if type(layer).__name__ == "BatchNormalization":
            gamma, beta, mean, variance = layer.get_weights()
            # Near what images give: neither zeros nor clipping everywhere.
            layer.set_weights(
                [
                    rng.uniform(0.8, 1.4, gamma.shape),
                    rng.normal(0, 0.2, beta.shape),
                    rng.normal(0, 0.1, mean.shape),
                    variance * rng.uniform(0.3, 0.8, variance.shape),
                ]
            )
    return supernet


def _images(count: int, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(-1, 1, (count, SIZE[0] // 8, SIZE[1] // 8, 3))
    strength = rng.uniform(0.1, 1, (count, 1, 1, 1))
    images = np.kron(coarse * strength, np.ones((1, 8, 8, 1)))
    return [image.astype(np.float32) for image in images]


def _configuration(
    data: st.DataObject,
    pieces: Pieces,
    spec: SupernetSpec,
    images: list[np.ndarray],
) -> Configuration:
    """Some of the early exits, each with a threshold that parts the images."""
    early = spec.head_names()[:-1]
    kept = data.draw(st.sets(st.sampled_from(early), min_size=1), "kept")
    runner = PieceRunner(pieces)
    choices = []
    for exit_index, head in sorted(kept):
        policy = data.draw(st.sampled_from(POLICIES), "policy")
        confidences = [
            confidence_numpy(
                Policy.parse(policy),
                runner.logits(runner.features(image, exit_index), exit_index, head),
            )[0]
            for image in images
        ]
        threshold = float(np.median(confidences))
        choices.append(ExitChoice(exit_index, head, policy, threshold))
    return Configuration((*choices, ExitChoice(*spec.head_names()[-1])))


@pytest.mark.slow
@pytest.mark.parametrize("precision", CONVERTED)
@given(data=st.data())
@settings(
    max_examples=2,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
def test_random_networks_stay_themselves(
    precision: Precision,
    data: st.DataObject,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("random")
    supernet = _supernet(data)
    spec = supernet.spec
    pieces = compile_supernet(
        supernet, folder / "pieces", precision, _images(4, 0), POLICIES
    )
    images = _images(6, 2)
    if precision == "float32":
        for difference in compare_pieces(pieces, supernet, images[:2]):
            assert difference.relative <= 1e-4, difference

    configuration = _configuration(data, pieces, spec, images)
    path = folder / "linked.tflite"
    link_configuration(pieces, spec, configuration, path)
    check = compare_linked(path, pieces, spec, configuration, images)
    clear = {i for i, margin in enumerate(check.margin) if margin > 1e-5}
    assert not set(check.misrouted) & clear
    for exit_index, largest in check.largest.items():
        # Half a step of rounding, and XNNPACK's multiplier with eight fraction bits.
        assert largest <= 0.75 * check.step + 2e-4, exit_index

    _check_other_forms(folder, pieces, spec, configuration, images, path)


def _check_other_forms(
    folder: Path,
    pieces: Pieces,
    spec: SupernetSpec,
    configuration: Configuration,
    images: list[np.ndarray],
    path: Path,
) -> None:
    linked = LinkedModel(path)
    link_stages(pieces, spec, configuration, folder / "stages")
    staged = StagedModel(folder / "stages")
    knob_path = folder / "knob.tflite"
    form = ExportForm(answer="both", threshold_input=True, exit_signatures=True)
    link_configuration(pieces, spec, configuration, knob_path, form)
    limits = [float(choice.threshold or 0) for choice in configuration.exits[:-1]]
    knob = LinkedModel(knob_path, thresholds=limits)
    for image in images:
        expected = linked.run(image)
        for other in (staged.run(image), knob.run(image)):
            assert other.exit == expected.exit
            assert other.logits is not None and expected.logits is not None
            np.testing.assert_allclose(other.logits, expected.logits, atol=1e-5)

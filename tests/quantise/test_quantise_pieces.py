"""Pieces of a fine-tuned network: the whole file bit for bit, and fit to be linked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from mess_tf.compiling.pieces import compile_supernet
from mess_tf.compiling.verify import compare_linked
from mess_tf.core.configuration import Configuration, ExitChoice
from mess_tf.core.errors import MessError
from mess_tf.core.piece_names import IMAGE_TENSOR, head_name
from mess_tf.core.pieces import Pieces
from mess_tf.core.supernet_spec import SupernetSpec
from mess_tf.exporting.inventory import inventory
from mess_tf.exporting.linking import link_configuration
from mess_tf.policies.confidence import confidence_numpy
from mess_tf.quantising.finetune import chosen_model
from mess_tf.quantising.pieces import convert_network, write_quantised
from mess_tf.runtime.interpreter import LiteRTFile
from mess_tf.runtime.interpreter import quantise as to_int8
from mess_tf.runtime.piece_runner import PieceRunner
from tests.support.quantised_networks import awake, images, mobile_spec, quantised

pytestmark = pytest.mark.slow

KEPT = [(1, "fcn_r1_b0"), (2, "fcn_r1_b0_s1"), (4, "dlb_r1_b0_s2_s1")]


@dataclass(frozen=True, eq=False)
class Written:
    """A folder of pieces and the file they were cut from."""

    spec: SupernetSpec
    whole: SupernetSpec
    pieces: Pieces
    content: bytes

    @property
    def size(self) -> tuple[int, int]:
        return self.spec.image_height, self.spec.image_width


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    whole = mobile_spec(8)
    spec = whole.with_heads(KEPT)
    size = (spec.image_height, spec.image_width)
    trained = quantised(chosen_model(awake(whole), spec), size)
    folder = tmp_path_factory.mktemp("run") / "int8-qat"
    pieces = write_quantised(trained, spec, folder, ["mean", "eq7"])
    return Written(spec, whole, pieces, convert_network(trained, spec))


def test_the_chain_of_pieces_is_the_whole_file_bit_for_bit(written: Written) -> None:
    runner, file = PieceRunner(written.pieces), LiteRTFile(written.content)
    info = file.inputs[IMAGE_TENSOR][1]
    for picture in images(2, 4, written.size):
        result = file.run({IMAGE_TENSOR: to_int8(picture[None], info)})
        tensors = runner.features(picture)
        for head in written.spec.head_names():
            np.testing.assert_array_equal(
                runner.raw_logits(tensors, *head), result[head_name(*head)]
            )


def test_a_folder_says_which_heads_it_has(written: Written) -> None:
    again = Pieces.load(written.pieces.folder)
    assert again == written.pieces
    assert again.precision == "int8-qat"
    assert again.part_of(written.whole) == written.spec


@pytest.mark.parametrize("threshold", [0.0, 2.0, None])
def test_pieces_link_into_one_file_that_routes_as_the_pieces_say(
    written: Written, tmp_path: Path, threshold: float | None
) -> None:
    *early, final = written.spec.head_names()
    pictures = list(images(6, 5, written.size))
    limit = threshold
    if limit is None:  # in the middle of the first exit's confidences
        runner = PieceRunner(written.pieces)
        from mess_tf.policies.registry import Policy

        logits = [runner.logits(runner.features(p), *early[0]) for p in pictures]
        policy = Policy.parse("mean")
        limit = float(np.median([confidence_numpy(policy, own)[0] for own in logits]))
    choices = [ExitChoice(*head, "mean", limit) for head in early]
    configuration = Configuration((*choices, ExitChoice(*final)))
    path = tmp_path / "model.tflite"
    link_configuration(written.pieces, written.spec, configuration, path)
    check = compare_linked(path, written.pieces, written.spec, configuration, pictures)
    assert check.misrouted == ()
    # Half a step of rounding, and XNNPACK's multiplier with eight fraction bits.
    assert max(check.largest.values()) <= 0.75 * check.step + 2e-5
    if threshold is None:
        assert len(set(check.taken)) > 1
    parts = inventory(path)
    assert not set(parts["operators"]) & {"SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND"}
    decision = {"CONV_2D", "DEPTHWISE_CONV_2D", "CONCATENATION", "RESIZE_BILINEAR"}
    assert not decision & set(parts["float_operators"])


def test_a_conversion_after_training_does_not_pose_as_one(tmp_path: Path) -> None:
    supernet = awake(mobile_spec(16))
    with pytest.raises(MessError, match="mess quantise"):
        compile_supernet(supernet, tmp_path / "pieces", "int8-qat", None, ["mean"])

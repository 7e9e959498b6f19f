"""A tiny supernet with everything that has bitten before, compiled once per session."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pytest

from mess_tf.core.configuration import Configuration, ExitChoice
from mess_tf.core.pieces import Pieces
from mess_tf.core.precisions import CONVERTED, Precision
from mess_tf.core.supernet_spec import HeadSpec, SupernetSpec
from mess_tf.models.supernet import Supernet, build_supernet, design_supernet
from mess_tf.policies.confidence import confidence_numpy
from mess_tf.policies.registry import Policy
from mess_tf.runtime.piece_runner import PieceRunner

HEIGHT, WIDTH = 64, 96
EARLY = ((1, "fcn_r1_b0"), (2, "fcn_r1_b0_s1"), (3, "dlb_r4_b1"))
FINAL = (4, "dlb_r1_b0_s2_s1")
POLICIES = ("mean", "eq7@0.6", "eq7+9@0.6", "region")


def random_images(count: int, seed: int) -> list[np.ndarray]:
    """Images of very different contrast, so that confidences spread."""
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(count):
        coarse = rng.normal(size=(HEIGHT // 8, WIDTH // 8, 3))
        smooth = np.kron(coarse, np.ones((8, 8, 1))) * rng.uniform(0.05, 1.5)
        noise = rng.normal(size=(HEIGHT, WIDTH, 3)) * rng.uniform(0, 0.5)
        images.append(np.clip(smooth + noise, -1, 1).astype(np.float32))
    return images


def wake_up(supernet: Supernet, seed: int) -> None:
    """Batch normalisation as after training, so that logits follow the image."""
    rng = np.random.default_rng(seed)
    norms = []
    for layer in supernet.model.layers:
        if type(layer).__name__ == "BatchNormalization":
            gamma, _, mean, variance = layer.get_weights()
            shift = rng.normal(0, 0.3, gamma.shape)
            scale = rng.uniform(0.8, 1.6, gamma.shape)
            layer.set_weights([scale, shift, mean, variance])
            layer.momentum = 0.0  # one pass sets the statistics to the batch's own
            norms.append(layer)
        elif layer.name.endswith("_logits"):
            kernel, bias = layer.get_weights()
            layer.set_weights([kernel * 1.5, rng.normal(0, 0.5, bias.shape)])
    supernet.model(np.stack(random_images(8, seed)), training=True)
    for layer in norms:
        layer.momentum = 0.98


@dataclass(frozen=True)
class Compiled:
    """What the tests of this folder share."""

    supernet: Supernet
    folder: Path
    precision: Precision
    pieces: Pieces

    policies = POLICIES

    @staticmethod
    def images(count: int, seed: int) -> list[np.ndarray]:
        return random_images(count, seed)

    @property
    def spec(self) -> SupernetSpec:
        return self.supernet.spec

    def configuration(
        self, early: Sequence[tuple[int, str]] = EARLY, policy: str = "mean"
    ) -> Configuration:
        """Thresholds between two images' confidences, so that every exit is taken."""
        runner = PieceRunner(self.pieces)
        images = self.images(24, seed=2)
        # Some numbers of its own, if the policy has any.
        count = Policy.parse(policy).parameters(len(self.spec.classes))
        rng = np.random.default_rng(4)
        values = (
            rng.normal(0, 2, count) if policy == "gate" else rng.uniform(1, 3, count)
        )
        own = tuple(values.tolist())
        choices = []
        for number, (exit_index, head) in enumerate(early):
            values = np.sort(
                [
                    confidence_numpy(
                        Policy.parse(policy),
                        runner.logits(
                            runner.features(image, exit_index), exit_index, head
                        ),
                        own,
                    )[0]
                    for image in images
                ]
            )
            # A third leaves here, whichever are left by then; in the widest gap near.
            around = np.arange(len(values) // 2, len(values) - 4 + number)
            gap = around[np.argmax(np.diff(values)[around])]
            threshold = float(values[gap : gap + 2].mean())
            choices.append(ExitChoice(exit_index, head, policy, threshold, own))
        return Configuration((*choices, ExitChoice(*FINAL)))


@pytest.fixture(scope="session")
def supernet() -> Supernet:
    parse = HeadSpec.parse
    spec = design_supernet(
        "mobilenet_v2",
        ["a", "b", "c", "d", "e"],
        image_size=(HEIGHT, WIDTH),
        final_heads=[parse("dlb_r1_b0_s2_s1")],
        early_heads={
            1: [parse("fcn_r1_b0")],
            2: [parse("fcn_r2_b1_rdi"), parse("fcn_r1_b0_s1")],
            3: [parse("dlb_r4_b1")],
        },
        backbone_options={"alpha": 0.35},
        exit_layers=["block_2_add", "block_5_add", "block_12_add"],
        head_options={"head_width": 16, "aspp_rates": (2, 3, 4)},
    )
    # Drawn anew for each process, now and then two exits would take all images.
    keras.utils.set_random_seed(1)
    result = build_supernet(spec)
    wake_up(result, 3)
    return result


@pytest.fixture(scope="session")
def compile_at(
    supernet: Supernet, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Precision], Compiled]:
    from mess_tf.compiling.pieces import compile_supernet

    done: dict[Precision, Compiled] = {}
    base = tmp_path_factory.getbasetemp()
    # With xdist each process has a folder of its own below that of the session.
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def compiled(precision: Precision) -> Compiled:
        if precision not in done:
            folder = shared / "compiled" / "pieces" / precision
            folder.parent.mkdir(parents=True, exist_ok=True)
            # The network is drawn alike in each process: one compiles it for all.
            with open(folder.parent / f"{precision}.lock", "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if (folder / "pieces.json").exists():
                    pieces = Pieces.load(folder)
                else:
                    images = random_images(12, seed=0)
                    pieces = compile_supernet(
                        supernet, folder, precision, images, POLICIES
                    )
            done[precision] = Compiled(supernet, folder, precision, pieces)
        return done[precision]

    return compiled


@pytest.fixture(
    params=[
        p if p in ("float32", "int8") else pytest.param(p, marks=pytest.mark.slow)
        for p in CONVERTED
    ]
)
def compiled(
    request: pytest.FixtureRequest, compile_at: Callable[[Precision], Compiled]
) -> Compiled:
    return compile_at(request.param)

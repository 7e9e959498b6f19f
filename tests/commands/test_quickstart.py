"""`mess quickstart` with a network and images of the user's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image

import mess_tf
from android_bench.records import PRESETS
from mess_tf.core.errors import MessError, UsageError
from mess_tf.data.drawn import DrawnSource
from mess_tf.recipe.recipe import Recipe
from mess_tf.runs import Run
from tests.support.doc_walk import BRIEF
from tests.support.little_network import little_model

SIZE = 64


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    body = little_model(SIZE)
    logits = keras.layers.Conv2D(6, 1, name="its_logits")(body.output)
    path = tmp_path_factory.mktemp("network") / "mine.keras"
    keras.Model(body.input, logits).save(path)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain folder of drawn images."""
    folder = tmp_path_factory.mktemp("data")
    for split, count in (("train", 8), ("val", 8)):
        source = DrawnSource(split, count=count, size=(SIZE, SIZE), seed=1)
        for kind in ("images", "masks"):
            (folder / kind / split).mkdir(parents=True)
        for index, name in enumerate(source.names):
            sample = source.load(index)
            Image.fromarray(sample.image).save(folder / f"images/{split}/{name}.png")
            Image.fromarray(sample.labels).save(folder / f"masks/{split}/{name}.png")
    (folder / "classes.txt").write_text("\n".join(source.classes))
    return folder


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"network": "NET", "data": "DATA"}, "needs --mean and --std"),
        ({"network": "NET", "mean": "0", "std": "1"}, "--network needs --data"),
        ({"mean": "0"}, "belong to --network"),
        (
            {"network": "NET", "data": "DATA", "mean": "1,2", "std": "1"},
            "--mean '1,2' is not accepted",
        ),
        (
            {"network": "NET", "data": "DATA", "mean": "0", "std": "wide"},
            "--std 'wide' is not accepted",
        ),
        (
            {"network": "NET", "data": "DATA", "mean": "0", "std": "1", "weights": "w"},
            "--weights is without effect beside --network",
        ),
        ({"weights": "w"}, "--weights is without effect without --data"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    options: dict[str, str], named: str, network: Path, data: Path, tmp_path: Path
) -> None:
    given: dict[str, Any] = {
        key: {"NET": network, "DATA": data}.get(value, value)
        for key, value in options.items()
    }
    with pytest.raises(UsageError, match=named):
        mess_tf.quickstart(tmp_path / "run", **given)
    assert not (tmp_path / "run").exists()


def test_a_network_that_is_not_there_is_named(data: Path, tmp_path: Path) -> None:
    with pytest.raises(MessError, match="No network at .*none.keras"):
        mess_tf.quickstart(
            tmp_path / "run",
            network=tmp_path / "none.keras",
            data=data,
            mean="0",
            std="1",
        )


@pytest.mark.slow
def test_a_network_goes_the_whole_way_and_stays_as_it_is(
    network: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in BRIEF.items():
        monkeypatch.setitem(PRESETS["quick"], name, value)
    recipe = tmp_path / "short.toml"
    recipe.write_text(
        """
        [data]
        path = "data"
        group = "image"
        [network]
        backbone = "my.keras"
        weights = "own"
        mean = [0, 0, 0]
        std = [1, 1, 1]
        exits = 2
        exit_placement = "latency"
        [heads]
        final = "own"
        early = ["fcn_r1_b0"]
        [training]
        scheme = "heads-only"
        batch = 4
        stage2_epochs = 1
        crop = 1.0
        [statistics]
        policies = ["mean"]
        [compile]
        precisions = ["int8"]
        calibration_images = 4
        """
    )
    found = mess_tf.quickstart(
        tmp_path / "run",
        network=network,
        data=data,
        mean="127.5",
        std="127.5,127.5,128",
        recipe=recipe,
    )
    run = Run.open(tmp_path / "run")
    assert isinstance(run.recipe, Recipe)
    assert run.recipe.network.std == (127.5, 127.5, 128.0)
    assert (run.recipe.network.height, run.recipe.network.width) == (SIZE, SIZE)
    card = json.loads((Path(found["models"][0]).parent / "card.json").read_text())
    assert card["input"]["shape"][1:3] == [SIZE, SIZE]
    ours = keras.saving.load_model(run.supernet_weights)
    original = keras.saving.load_model(network)
    for name in ("one", "five"):
        for a, b in zip(
            original.get_layer(name).get_weights(),
            ours.get_layer(name).get_weights(),
            strict=True,
        ):
            np.testing.assert_array_equal(a, b)
    assert "profile" in found["next"] and "--device phone" in found["next"]

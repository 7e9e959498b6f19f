"""The latency model on devices of known law, and what it must refuse."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from android_bench.errors import BenchError
from android_bench.latency_model.choose import choose
from android_bench.latency_model.features import Operator, operators_of
from android_bench.latency_model.files import load, save
from android_bench.latency_model.model import LatencyModel, fit
from android_bench.latency_model.work_model import (
    fit_work_model,
    terms_of,
    work_model_ms,
)
from tests.phone_double import convolutions

Models = dict[str, tuple[Operator, ...]]


def convolution(
    cells: int, channels_in: int, channels_out: int, kernel: int = 1, dilation: int = 1
) -> Operator:
    macs = cells * channels_in * channels_out * kernel
    return Operator(
        kind="CONV_2D",
        precision="float32",
        weights="float32",
        cells=cells,
        channels_in=channels_in,
        channels_out=channels_out,
        kernel=kernel,
        stride=1,
        dilation=dilation,
        macs=macs,
        read_bytes=4 * cells * channels_in,
        weight_bytes=4 * channels_in * channels_out * kernel,
        written_bytes=4 * cells * channels_out,
    )


def heads(seed: int, count: int = 120) -> Models:
    """Chains of three convolutions out of a few sizes, as heads of one network are."""
    rng = np.random.default_rng(seed)
    return {
        f"head_{number}": tuple(
            convolution(cells, int(rng.choice([24, 48, 96])), width, kernel, dilation)
            for cells in [int(rng.choice([300, 1200]))]
            for width, kernel, dilation in [
                (int(rng.choice([32, 64, 128])), 1, 1),
                (int(rng.choice([32, 64])), 9, int(rng.choice([1, 2, 4]))),
                (11, 1, 1),
            ]
        )
        for number in range(count)
    }


class Law:
    """A device whose operators have an own factor each, and noisy measurements."""

    def __init__(self, seed: int, own: float = 0.1, noise: float = 0.01) -> None:
        self._rng = np.random.default_rng(seed)
        self._factors: dict[Operator, float] = {}
        self._own, self._noise = own, noise

    def operator_ms(self, operator: Operator) -> float:
        if operator not in self._factors:
            self._factors[operator] = float(np.exp(self._rng.normal(0, self._own)))
        base = 3e-3 + operator.macs / 3e7 + operator.weight_bytes / 5e6
        moved = (operator.read_bytes + operator.written_bytes) / 8e6
        return (base + moved) * self._factors[operator]

    def measure(self, models: Models, scale: float = 1.0) -> dict[str, float]:
        return {
            name: scale
            * sum(map(self.operator_ms, operators))
            * float(np.exp(self._rng.normal(0, self._noise)))
            for name, operators in models.items()
        }


def part(models: Models, names: list[str]) -> Models:
    return {name: models[name] for name in names}


def learnt(seed: int = 0, count: int = 40) -> tuple[LatencyModel, Models, list[str]]:
    models = heads(seed)
    chosen = choose(models, count)
    measured = Law(seed).measure(part(models, chosen))
    return fit(part(models, chosen), measured), models, chosen


def errors(
    model: LatencyModel, models: Models, true_ms: dict[str, float]
) -> np.ndarray:
    found = model.predict(models)
    return np.array([found[n].latency_ms / true_ms[n] - 1 for n in models])


def test_features_of_a_tiny_model_are_those_counted_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "tiny.tflite"
    path.write_bytes(convolutions(count=2, size=16, channels=8))
    cells, moved = 16 * 16, 16 * 16 * 8 * 4
    one = Operator(
        kind="CONV_2D",
        precision="float32",
        weights="float32",
        cells=cells,
        channels_in=8,
        channels_out=8,
        kernel=9,
        stride=1,
        dilation=1,
        macs=cells * 8 * 9 * 8,
        read_bytes=moved,
        weight_bytes=(8 * 9 * 8 + 8) * 4,
        written_bytes=moved,
    )
    assert operators_of(path) == (one, one)


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"nothing of the kind", "is not a .tflite"), (b"1234TFL3" * 3, "damaged")],
)
def test_a_broken_file_is_named(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "broken.tflite"
    path.write_bytes(content)
    with pytest.raises(BenchError, match=told):
        operators_of(path)
    with pytest.raises(BenchError, match="cannot be read"):
        operators_of(tmp_path / "absent.tflite")


def test_a_law_of_its_own_terms_is_found_again() -> None:
    models = list(heads(3).values())
    law = {"count": 5e-3, "bytes": 1e-7, "weight bytes": 3e-7}
    law |= {"macs of POINTWISE": 4e-8, "macs of CONV_2D": 7e-8}
    true_ms = np.array([work_model_ms(law, operators).sum() for operators in models])
    found = fit_work_model(models, true_ms)
    # The shrinkage takes a little.
    again = np.array([work_model_ms(found, operators).sum() for operators in models])
    np.testing.assert_allclose(again, true_ms, rtol=0.01)
    assert min(found.values()) >= 0


sizes = st.tuples(
    st.integers(1, 5000),
    st.integers(1, 600),
    st.integers(1, 600),
    st.sampled_from([1, 9]),
)


@given(sizes, sizes)
def test_no_term_of_the_law_falls_with_work(
    one: tuple[int, int, int, int], other: tuple[int, int, int, int]
) -> None:
    small = terms_of(convolution(*map(min, one, other)))
    large = terms_of(convolution(*map(max, one, other)))
    if small.keys() == large.keys():
        assert all(small[name] <= large[name] for name in small)


@settings(max_examples=25, deadline=None)
@given(st.lists(sizes, min_size=2, max_size=8), st.integers(0, 3))
def test_more_work_is_never_predicted_to_be_faster(
    asked: list[tuple[int, int, int, int]], seed: int
) -> None:
    model, models, _ = learnt(seed)
    known = sorted({operator for used in models.values() for operator in used})
    operators = [*known, *(convolution(*size) for size in asked)]
    found = model.predict({str(i): (o,) for i, o in enumerate(operators)})
    work = np.array([dataclasses.astuple(o)[3:] for o in operators])
    for i, small in enumerate(operators):
        assert found[str(i)].latency_ms > 0
        for j, large in enumerate(operators):
            comparable = small.dilation == large.dilation
            if comparable and (work[i] <= work[j]).all():
                assert found[str(i)].latency_ms <= found[str(j)].latency_ms * (1 + 1e-9)


def test_a_further_operator_always_takes_further_time() -> None:
    model, models, _ = learnt()
    name = next(iter(models))
    longer = {"longer": (*models[name], convolution(300, 24, 32)), **models}
    found = model.predict(longer)
    assert found["longer"].latency_ms > found[name].latency_ms


def test_a_third_of_the_models_tells_the_others() -> None:
    model, models, chosen = learnt()
    rest = part(models, [name for name in models if name not in chosen])
    true_ms = Law(0, noise=0).measure(part(models, chosen) | rest)
    off = errors(model, rest, true_ms)
    assert np.mean(np.abs(off) < 0.05) > 0.85
    assert np.abs(off).max() < 0.2


def test_chosen_models_tell_more_than_drawn_ones() -> None:
    squares = np.zeros(2)
    for seed in range(6):
        models, law = heads(seed), Law(seed)
        true_ms = law.measure(models)
        drawn = np.random.default_rng(seed).choice(list(models), 30, replace=False)
        for way, names in enumerate((choose(models, 30), drawn.tolist())):
            model = fit(part(models, names), true_ms)
            squares[way] += np.square(errors(model, models, true_ms)).mean()
    assert squares[0] < 0.8 * squares[1]


def test_measurements_that_were_disturbed_are_found_and_count_little() -> None:
    models, law = heads(0), Law(0, own=0.03)
    true_ms = law.measure(models)
    chosen = choose(models, 50)
    measured = {name: true_ms[name] for name in chosen}
    disturbed = chosen[5:50:15]
    for name in disturbed:
        measured[name] *= 2
    rest = part(models, [name for name in models if name not in chosen])
    model = fit(part(models, chosen), measured)
    assert set(disturbed) <= model.outliers
    assert len(model.outliers) <= len(disturbed) + 2
    assert np.abs(errors(model, rest, true_ms)).max() < 0.15


def test_intervals_hold_what_they_promise() -> None:
    inside = []
    for seed in range(8):
        models, law = heads(seed), Law(seed, own=0.05 * (1 + seed % 4))
        true_ms = law.measure(models)
        chosen = choose(models, 35)
        found = fit(part(models, chosen), true_ms).predict(models)
        inside += [
            found[name].low_ms <= true_ms[name] <= found[name].high_ms
            for name in models
            if name not in chosen
        ]
    assert np.mean(inside) >= 0.93


def test_a_prior_of_a_device_alike_needs_fewer_measurements() -> None:
    models = heads(1)
    law = Law(1, own=0.3)
    slow_ms = law.measure(models, scale=7.0)
    fast_ms = law.measure(models)
    prior = fit(models, slow_ms)
    chosen = choose(models, 20, prior=prior)
    spread = [
        np.abs(errors(fit(part(models, chosen), fast_ms, p), models, fast_ms)).mean()
        for p in (prior, None)
    ]
    assert spread[0] < 0.8 * spread[1]


def test_a_file_gives_the_same_predictions(tmp_path: Path) -> None:
    prior, models, chosen = learnt()
    measured = Law(5).measure(part(models, chosen))
    model = fit(part(models, chosen), measured, prior, {"fingerprint": "fake-1"})
    path = tmp_path / "folder" / "model.json"
    save(model, path)
    again = load(path)
    assert again == model
    assert again.predict(models) == model.predict(models)
    assert json.loads(path.read_text())["schema"] == 1


@pytest.mark.parametrize(
    "content", ["{", "{}", '{"schema": 99}', "[]", '{"schema": 1, "operators": [{}]}']
)
def test_another_file_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "model.json"
    path.write_text(content)
    with pytest.raises(BenchError, match=r"model\.json is no latency model"):
        load(path)
    with pytest.raises(BenchError, match="cannot be read"):
        load(tmp_path / "absent.json")


def test_too_few_measurements_are_refused() -> None:
    models = part(heads(0), [f"head_{i}" for i in range(19)])
    with pytest.raises(BenchError, match="19 measured models are too few"):
        fit(models, Law(0).measure(models))


@pytest.mark.parametrize("latency_ms", [0.0, -1.0, float("nan"), float("inf")])
def test_a_latency_that_is_none_is_refused(latency_ms: float) -> None:
    models = heads(0, 30)
    measured = Law(0).measure(models) | {"head_7": latency_ms}
    with pytest.raises(BenchError, match="head_7"):
        fit(models, measured)


def test_an_operator_nobody_measured_is_refused() -> None:
    model, models, _ = learnt()
    strange = dataclasses.replace(models["head_0"][0], kind="RESIZE_BILINEAR")
    with pytest.raises(BenchError, match="RESIZE_BILINEAR float32"):
        model.predict({"head_x": (*models["head_0"], strange)})
    quantised = dataclasses.replace(models["head_0"][0], precision="int8")
    with pytest.raises(BenchError, match="int8"):
        model.predict({"head_x": (quantised,)})


def test_no_model_is_chosen_twice_nor_one_too_many() -> None:
    models = heads(0, 30)
    chosen = choose(models, 10, measured=["head_3"])
    assert len(set(chosen)) == 10 and "head_3" not in chosen
    with pytest.raises(BenchError, match="30 models of 29"):
        choose(models, 30, measured=["head_3"])

"""Tiny real models, a device that plays scripted latencies, and short settings."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from android_bench.records import (
    Conditions,
    DeviceInfo,
    Failure,
    Measurement,
    MeasureSettings,
    ModelFile,
    Round,
    Tool,
)
from tests.support.postgresql_server import PostgreSQLServer

NOW = "2026-01-02T03:04:05.678+00:00"


def make_round(*samples_us: float, runs: int = 0, **conditions: Any) -> Round:
    return Round(tuple(samples_us), Conditions(NOW, **conditions), runs=runs)


def make_model(name: str) -> ModelFile:
    digest = hashlib.sha256(name.encode()).hexdigest()
    return ModelFile(name, Path(f"{name}.tflite"), digest)


class FakeDevice:
    """Plays ``outcomes(model name, visit number)``; records the order of visits."""

    def __init__(self, outcomes: Callable[[str, int], Round | Failure | None]) -> None:
        self.outcomes = outcomes
        self.calls: list[list[str]] = []
        self.visits: list[str] = []
        self.throttled: Iterator[bool] = iter(())

    def describe(self) -> DeviceInfo:
        return DeviceInfo("fake", "fake", "fake-1", "model", "soc", "abi", "os 1", 2)

    def tool(self) -> Tool:
        return Tool("fake-tool", "1.0", "ab" * 32)

    def state(self) -> Conditions:
        return Conditions(NOW, throttled=next(self.throttled, None))

    def benchmark(
        self, models: Sequence[ModelFile], settings: MeasureSettings
    ) -> Iterator[tuple[ModelFile, Round | Failure]]:
        self.calls.append([model.name for model in models])
        for model in models:
            outcome = self.outcomes(model.name, self.visits.count(model.name))
            self.visits.append(model.name)
            if outcome is not None:
                yield model, outcome

    def infer(self, model: ModelFile, inputs: Iterable[Any], settings: Any) -> Any:
        raise NotImplementedError

    def close(self) -> None: ...

    def __enter__(self) -> FakeDevice:
        return self

    def __exit__(self, *_: Any) -> None: ...


@pytest.fixture
def fake_device() -> Callable[..., FakeDevice]:
    return FakeDevice


@pytest.fixture
def round_of() -> Callable[..., Round]:
    return make_round


@pytest.fixture
def model_of() -> Callable[[str], ModelFile]:
    return make_model


@pytest.fixture
def measurement_of() -> Callable[..., Measurement]:
    def make(name: str, *rounds: Round, **fields: Any) -> Measurement:
        values: dict[str, Any] = {
            "name": name,
            "sha256": make_model(name).sha256,
            "fingerprint": "fake-1",
            "settings_key": MeasureSettings().key,
            "tool_key": "tool 1",
            "rounds": rounds,
            "time": NOW,
        }
        return Measurement(**{**values, **fields})

    return make


@pytest.fixture
def short() -> MeasureSettings:
    """Two rounds of three runs; spread is not judged on real clocks."""
    return dataclasses.replace(
        MeasureSettings(),
        rounds=2,
        warmup_runs=1,
        warmup_seconds=0.0,
        runs_per_round=3,
        min_seconds_per_round=0.0,
        max_seconds_per_round=5.0,
        max_spread=1e9,
        timeout_s=60.0,
    )


@pytest.fixture(scope="session")
def tflite_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """``conv``: float convolution without signature. ``two``: signature with inputs
    ``left``, ``right`` and outputs ``total`` = left + 2 right, ``scaled`` = 3 left."""
    tf = pytest.importorskip("tensorflow")
    folder = tmp_path_factory.mktemp("models")
    kernel = tf.random.stateless_normal((3, 3, 3, 4), seed=(1, 2))
    conv = tf.function(
        lambda image: tf.nn.conv2d(image, kernel, 1, "SAME"),
        input_signature=[tf.TensorSpec((1, 8, 8, 3), tf.float32, name="image")],
    )
    two = tf.function(
        lambda left, right: {"total": left + 2.0 * right, "scaled": 3.0 * left},
        input_signature=[
            tf.TensorSpec((1, 4), tf.float32, name="left"),
            tf.TensorSpec((1, 4), tf.float32, name="right"),
        ],
    )
    module = tf.Module()
    module.two = two
    tf.saved_model.save(
        module, str(folder / "two"), signatures={"serve": two.get_concrete_function()}
    )
    converters = {
        "conv": tf.lite.TFLiteConverter.from_concrete_functions(
            [conv.get_concrete_function()], conv
        ),
        "two": tf.lite.TFLiteConverter.from_saved_model(
            str(folder / "two"), signature_keys=["serve"]
        ),
    }
    paths = {}
    for name, converter in converters.items():
        paths[name] = folder / f"{name}.tflite"
        paths[name].write_bytes(converter.convert())
    return paths


@pytest.fixture
def copies(
    tflite_files: dict[str, Path], tmp_path: Path
) -> Callable[..., list[ModelFile]]:
    """The convolution under several names and digests: bytes after its end differ."""

    def make(*names: str) -> list[ModelFile]:
        content = tflite_files["conv"].read_bytes()
        models = []
        for name in names:
            path = tmp_path / f"{name}.tflite"
            path.write_bytes(content + b"\0" * 16 + name.encode())
            models.append(ModelFile.read(path))
        return models

    return make


@pytest.fixture
def recorded_logs(shared_data: Path) -> dict[str, str]:
    """Logs of the benchmark tool, recorded by others, by their two-digit number."""
    folder = shared_data / "device_logs" / "benchmark_model"
    if not folder.is_dir():
        pytest.skip(f"no recorded logs at {folder}")
    # Line ends as they were recorded: some logs are from Windows.
    return {p.name[:2]: p.read_bytes().decode() for p in sorted(folder.iterdir())}


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """URL of a server: the one named by the environment, or one of our own."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    given = os.environ.get("MESS_TEST_POSTGRESQL_URL")
    if given:
        yield given
        return
    with PostgreSQLServer() as url:
        yield url


@pytest.fixture
def empty_postgresql(postgresql: str) -> Iterator[str]:
    """URL of an empty database, dropped at the end."""
    name = f"mess_{uuid.uuid4().hex[:12]}"
    server = sa.make_url(postgresql).set(drivername="postgresql+psycopg")
    admin = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    try:
        with admin.connect() as connection:
            connection.execute(sa.text(f"CREATE DATABASE {name}"))
        url = server.set(drivername="postgresql", database=name)
        yield url.render_as_string(hide_password=False)
        with admin.connect() as connection:
            connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
    finally:
        admin.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """An empty place for a store on each kind of database."""
    if request.param == "sqlite":
        return tmp_path / "p.sqlite"
    url: str = request.getfixturevalue("empty_postgresql")
    return url

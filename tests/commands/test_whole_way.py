"""The whole way as the README and other pages type it, small, with kills on the way.

One run folder goes through all commands of the README's first use. `train`, `evaluate`
and `profile` are killed (SIGKILL) once they have finished something, and typed again.
Then every code block of the pages is run on it that can be; what is typed differently,
and what is not typed at all, stands in ``tests/support/doc_walk.py``.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

import mess_tf
from android_bench.records import PRESETS
from mess_tf.commands.latencies import measured_latencies
from mess_tf.core.statistics import Statistics
from mess_tf.core.supernet_spec import SupernetSpec
from mess_tf.runs import Run
from tests.phone_double import PhoneDouble, convolutions, write_tool
from tests.support.doc_blocks import ROOT, Block, blocks, commands_of
from tests.support.doc_walk import BRIEF, LEFT_OUT, REPLACED, Walk

RECIPE = """
[data]
kind = "folder"
[network]
alpha = 0.35
height = 64
width = 64
weights = "random"
exit_layers = ["block_2_add", "block_5_add"]
head_width = 16
decoder_width = 16
skip_width = 8
[heads]
final = "dlb_r1_b0_s1"
early = ["fcn_r1_b0", "fcn_r1_b0_s1"]
[training]
batch = 8
stage1_epochs = 4
stage2_epochs = 2
loss_stride = 2
[statistics]
policies = ["mean", "cbt", "gate", "region"]
pixel_thresholds = [0.5]
[compile]
precisions = ["int8"]
calibration_images = 8
[quantise]
epochs = 1
settled = 0.0
[search]
max_early_exits = 2
drops_pp = [1.0, 50.0]
"""
PROGRAM = f"""
import sys
from android_bench.records import PRESETS
from mess_tf.cli import main
PRESETS["quick"].update({BRIEF})
sys.exit(main())
"""
LIMIT_S = 800


def kill_when(ready: Callable[[], bool], folder: Path, command: Sequence[str]) -> None:
    """Starts a command and kills it, with all it started, as soon as ``ready``."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *command[1:]],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    deadline = time.monotonic() + LIMIT_S
    while not ready() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    was_running = process.poll() is None
    if was_running:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert was_running, "the command ended before it could be killed"


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.is_file() else []


def measured_ids(store: Path) -> list[int]:
    if not store.is_file():
        return []
    connection = sqlite3.connect(f"file:{store}?mode=ro", uri=True)
    try:
        return [
            row[0]
            for row in connection.execute("select id from measurements order by id")
        ]
    except sqlite3.OperationalError:
        return []  # the table is being made, or the store is locked for a moment
    finally:
        connection.close()


def block_with(start: str) -> Block:
    """The first shell block that begins so."""
    return next(block for block in blocks("sh") if block.text.startswith(start))


FIRST_USE = block_with("mess train")


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    """A folder to type in, a phone within reach, and no user's settings."""
    base = tmp_path_factory.mktemp("whole_way")
    (base / "tiny.toml").write_text(RECIPE)
    (base / "any_other_model.tflite").write_bytes(convolutions())
    with PhoneDouble() as phone, pytest.MonkeyPatch.context() as patch:
        for name, value in BRIEF.items():
            patch.setitem(PRESETS["quick"], name, value)
        with socket.socket() as probe:  # a port where no adb server runs
            probe.bind(("127.0.0.1", 0))
            patch.setenv("ANDROID_ADB_SERVER_PORT", str(probe.getsockname()[1]))
        patch.setenv("HOME", str(base))
        patch.setenv("MESS_PHONES", phone.serial)
        patch.setenv("MESS_BENCHMARK_MODEL", str(write_tool(base / "benchmark_model")))
        yield Walk(base, phone.serial)


@pytest.fixture(scope="module")
def first_use(walk: Walk) -> dict[str, list[str]]:
    """The commands of the README's first use by name, data to train on beside them."""
    (draw,) = walk.commands(block_with("python examples/draw_folder.py"))
    walk.type(draw)
    return {words[1]: words for words in walk.commands(FIRST_USE)}


@pytest.fixture(scope="module")
def folder(walk: Walk, first_use: dict[str, list[str]]) -> Path:
    """A trained run whose training was killed after its second epoch."""
    run = walk.folder / "runs/mine"
    history = run / "training" / "stage1.jsonl"
    kill_when(lambda: len(lines(history)) >= 2, walk.folder, first_use["train"])
    before = lines(history)[:1]
    assert "mess train runs/mine" in (run / "log.txt").read_text()
    assert "Next: mess compile" in walk.type(first_use["train"])
    assert lines(history)[:1] == before
    assert [json.loads(line)["epoch"] for line in lines(history)] == [1, 2, 3, 4]
    walk.type(first_use["compile"])
    return run


@pytest.fixture(scope="module")
def evaluated(walk: Walk, first_use: dict[str, list[str]], folder: Path) -> Path:
    partial = folder / "statistics" / "int8.partial"
    some = lambda: bool(list(partial.glob("*/*.npz")))  # noqa: E731
    kill_when(some, walk.folder, first_use["evaluate"])
    assert some()
    walk.type(first_use["evaluate"])
    assert not partial.exists()
    return folder


@pytest.fixture(scope="module")
def profiled(walk: Walk, first_use: dict[str, list[str]], evaluated: Path) -> Path:
    store = evaluated / "profiles.sqlite"
    kill_when(lambda: len(measured_ids(store)) >= 3, walk.folder, first_use["profile"])
    before = measured_ids(store)
    walk.type(first_use["profile"])
    after = measured_ids(store)
    pieces = json.loads((evaluated / "pieces/int8/pieces.json").read_text())["pieces"]
    assert after[: len(before)] == before
    assert len(after) == len(pieces)  # nothing is measured twice
    return evaluated


@pytest.fixture(scope="module")
def reported(walk: Walk, first_use: dict[str, list[str]], profiled: Path) -> Path:
    """The README's first use to its end."""
    for name in ("search", "export", "check", "report"):
        walk.type(first_use[name])
    return profiled


@pytest.mark.slow
def test_a_killed_evaluation_ends_as_one_of_one_go(evaluated: Path) -> None:
    path = evaluated / "statistics" / "int8.npz"
    killed = Statistics.load(path)
    path.unlink()
    mess_tf.evaluate(evaluated)
    whole = Statistics.load(path)
    np.testing.assert_array_equal(killed.intersection, whole.intersection)
    for key, values in whole.confidence.items():
        np.testing.assert_array_equal(killed.confidence[key], values)


@pytest.mark.slow
@pytest.mark.parametrize("block", blocks("sh"), ids=lambda block: block.place)
def test_commands_of_the_pages(walk: Walk, reported: Path, block: Block) -> None:
    for words in walk.commands(block):
        walk.type(words)


@pytest.mark.slow
@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: block.place)
def test_programs_of_the_pages(walk: Walk, reported: Path, block: Block) -> None:
    run = Run.open(reported)
    printed = walk.program(
        block,
        statistics=Statistics.load(run.statistics("int8")),
        spec=SupernetSpec.load(run.supernet_structure),
        latency_ms=measured_latencies(run, "int8").by_piece,
    )
    assert list(shown_behind(block)) in ([], [printed])


def shown_behind(block: Block) -> Iterator[str]:
    """What a page shows right behind a program as printed by it."""
    there = (ROOT / block.page).read_text(encoding="utf-8").splitlines(keepends=True)
    behind = there[block.line + block.text.count("\n") + 1 :]
    if behind[:2] == ["\n", "```\n"]:
        yield "".join(itertools.takewhile(lambda line: line != "```\n", behind[2:]))


@pytest.mark.slow
def test_a_choice_was_fine_tuned_alone(walk: Walk, reported: Path) -> None:
    for words in walk.commands(block_with("mess export runs/mine --choice drop1")):
        walk.type(words)
    result = json.loads((reported / "quantise" / "result.json").read_text())
    assert [row["name"] for row in result["thresholds"]] == ["drop1"]
    assert (reported / "export" / "drop1_int8-qat" / "model.tflite").is_file()


def test_what_is_typed_differently_or_not_at_all_stands_in_a_page() -> None:
    walk = Walk(ROOT, "0A1B")
    text = "".join(block.text for kind in ("sh", "python") for block in blocks(kind))
    for said, instead in REPLACED.items():
        assert said in text, said
        text = text.replace(said, instead)
    typed = [words for block in blocks("sh") for words in commands_of(walk.text(block))]
    for start in LEFT_OUT:
        assert any(" ".join(words).startswith(start) for words in typed), start

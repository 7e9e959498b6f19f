"""Types what the pages say, in one folder, with a small recipe and a phone double."""

from __future__ import annotations

import contextlib
import io
import runpy
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from unittest import mock

from mess_tf import cli
from tests.support.doc_blocks import ROOT, Block, commands_of

# A fraction of the time that the preset takes, and no second go of what is noisy.
BRIEF = {
    "rounds": 2,
    "runs_per_round": 2,
    "min_seconds_per_round": 0.01,
    "max_spread": 1e9,
}

# What is typed instead of what a page says, in this order. SERIAL is the phone's.
REPLACED = {
    "path/to/folder": "mine",
    "draw_folder.py mine": "draw_folder.py mine --train 32 --val 40 --size 64",
    "--recipe own": "--recipe tiny.toml",
    "--recipe quickstart": "--recipe tiny.toml",
    "runs/tutorial": "runs/mine",
    "runs/camvid": "runs/mine",
    "drop2_int8": "drop50_int8",
    "--min-miou 0.3": "--min-miou 0.05",
    "mess quantise runs/mine  ": "mess quantise runs/mine --choice drop1  ",
    "(128, 128, 3)": "(64, 64, 3)",
    # On a busy machine even the small network takes more than a millisecond.
    "--max-latency-ms 1 ": "--max-latency-ms 1000 ",
    # The small network's drop1 is a single exit, which has no threshold.
    "--threshold-input": "",
}

# Commands that are not typed here, by how they begin, and why.
LEFT_OUT = {
    "make": "make test runs this; the demo takes minutes",
    ". .venv/bin/activate": "the tests run in that environment",
    "eval": "tests/repo/test_completion.py does it in both shells",
    "python examples/picture.py": "draws the README's picture from the demo's network",
    "python benchmarks": "benchmarks take minutes, and most a run on CamVid",
    "python3.11": "sets another runtime up; tests/compile/test_compile_elsewhere.py",
    "/tmp/": "installs it",
    "python -m pytest": "make test runs it",
    "mess train runs/mine --recipe tiny.toml --data camvid": "CamVid is not ours",
    "mess train runs/mine --recipe camvid": "CamVid is not ours",
    "mess train runs/voc": "VOC is not ours; tests/data/test_data_voc.py draws some",
    "mess quickstart runs/published": "tests/commands/test_quickstart.py, smaller",
    "mess train runs/tuned": "tests/training/test_heads_only.py, smaller",
    "mess train runs/unet": "tests/adopt/test_adopt_whole.py, smaller",
    "mess compile runs/unet": "tests/adopt/test_adopt_whole.py, smaller",
    "mess profile runs/mine --device 0A1B": "tests/phone/test_phone_many.py",
    "mess profile runs/mine --operators --device 0A1B": "a phone;"
    " tests/phone/test_phone_device.py",
    "mess profile runs/mine --device all --store postgresql": "needs PostgreSQL;"
    " tests/bench/test_bench_store_writers.py starts one where it is installed",
}


class Walk:
    """Types each command once: later pages repeat what the README says.

    Args:
        folder: to type in.
        serial: of the phone.
    """

    def __init__(self, folder: Path, serial: str) -> None:
        self.folder = folder
        self.replaced: Mapping[str, str] = {**REPLACED, "SERIAL": serial}
        self._typed: dict[tuple[str, ...], str] = {}

    def text(self, block: Block) -> str:
        """The block as it is typed here."""
        text = block.text
        for said, typed in self.replaced.items():
            text = text.replace(said, typed)
        return text

    def commands(self, block: Block) -> list[list[str]]:
        """The commands of a block that are typed."""
        return [words for words in commands_of(self.text(block)) if not reason(words)]

    def type(self, words: Sequence[str]) -> str:
        """Runs a command in this process, unless it has been; what it printed."""
        key = tuple(words)
        if key not in self._typed:
            code, out, err = self._run(words)
            assert code == 0, f"{' '.join(words)}\n{err}"
            self._typed[key] = out
        return self._typed[key]

    def refused(self, *arguments: str) -> str:
        """The error of a `mess` command that fails."""
        code, _, err = self._run(["mess", *arguments])
        assert code == 1
        return err

    def _run(self, words: Sequence[str]) -> tuple[int, str, str]:
        program, *arguments = words
        out, err = io.StringIO(), io.StringIO()
        with (
            contextlib.chdir(self.folder),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            if program == "mess":
                return cli.main(arguments), out.getvalue(), err.getvalue()
            assert program == "python", words
            with mock.patch.object(sys, "argv", arguments):
                runpy.run_path(str(ROOT / arguments[0]), run_name="__main__")
            return 0, out.getvalue(), err.getvalue()

    def program(self, block: Block, **names: object) -> str:
        """Runs a block of Python that may use ``names``; gives what it printed."""
        out = io.StringIO()
        with contextlib.chdir(self.folder), contextlib.redirect_stdout(out):
            exec(compile(self.text(block), block.place, "exec"), dict(names))  # noqa: S102
        return out.getvalue()


def reason(words: Sequence[str]) -> str | None:
    """Why a command is not typed; None for one that is."""
    line = " ".join(words)
    return next(
        (why for start, why in LEFT_OUT.items() if line.startswith(start)), None
    )

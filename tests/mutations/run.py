"""Applies deliberate bugs one by one and runs the tests that must fail for each.

    python -m tests.mutations.run [NAME ...] [--check]

``mutations.toml`` is the table. The bugs are made in a copy of the tracked files in a
temporary folder; only the selected tests run, without those marked ``slow``.
``--check`` looks only whether each bug's place is still there, once.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TABLE = Path(__file__).with_name("mutations.toml")
_LIMIT_S = 1800.0
_TESTS_FAILED = 1


@dataclass(frozen=True)
class Mutation:
    """One deliberate bug.

    Attributes:
        name: what is wrong with it.
        file: path below the root.
        old, new: text that stands there exactly once, and what replaces it.
        tests: arguments of pytest that select what must fail.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def mutated(self, text: str) -> str:
        """Raises ValueError where the place is not there, or more than once."""
        count = text.count(self.old)
        if count != 1:
            raise ValueError(f"{self.file} has {self.old!r} {count} times, not once")
        return text.replace(self.old, self.new)


def load_table(path: Path = TABLE) -> list[Mutation]:
    """The mutations of a table, in order."""
    rows = tomllib.loads(path.read_text(encoding="utf-8"))["mutation"]
    return [Mutation(**{**row, "tests": tuple(row["tests"])}) for row in rows]


def copy_tracked(target: Path) -> None:
    """Copies what git tracks, as it stands in the working tree."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def run_tests(copy: Path, tests: Sequence[str]) -> int:
    """Exit status of pytest on a selection, in the copy."""
    words = ["-q", "-x", "-m", "not slow", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=_LIMIT_S,
    )
    return done.returncode


def try_mutation(copy: Path, mutation: Mutation) -> str:
    """``caught``, or in words what is wrong with the tests or the table."""
    file = copy / mutation.file
    sound = file.read_text(encoding="utf-8")
    try:
        broken = mutation.mutated(sound)
    except ValueError as error:
        return f"STALE: {error}"
    file.write_text(broken, encoding="utf-8")
    try:
        status = run_tests(copy, mutation.tests)
    finally:
        file.write_text(sound, encoding="utf-8")
    if status == _TESTS_FAILED:
        return "caught"
    return "MISSED" if status == 0 else f"NO RESULT: pytest ended with {status}"


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="only mutations with this in the name")
    parser.add_argument("--check", action="store_true", help="only whether they apply")
    arguments = parser.parse_args(words)
    table = [
        mutation
        for mutation in load_table()
        if not arguments.names or any(n in mutation.name for n in arguments.names)
    ]
    if arguments.check:
        stale = []
        for mutation in table:
            try:
                mutation.mutated((ROOT / mutation.file).read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                stale.append(f"{mutation.name}: {error}")
        print("\n".join(stale) or f"all {len(table)} mutations apply")
        return int(bool(stale))
    with tempfile.TemporaryDirectory(prefix="mutations-") as folder:
        copy = Path(folder)
        copy_tracked(copy)
        every = sorted({test for mutation in table for test in mutation.tests})
        status = run_tests(copy, every)
        if status != 0:
            print(f"The tests fail without any mutation: pytest ended with {status}.")
            return 1
        missed = 0
        for number, mutation in enumerate(table, 1):
            outcome = try_mutation(copy, mutation)
            missed += outcome != "caught"
            print(f"{number:3d} {mutation.name}: {outcome}", flush=True)
    print(f"{len(table) - missed} of {len(table)} caught")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())

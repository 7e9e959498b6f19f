"""The import rules: packages apart, and nothing heavy before it is used."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("mess_tf", "android_bench", "search")
FILES = sorted(file for name in PACKAGES for file in (ROOT / name).rglob("*.py"))

HEAVY = {
    "ai_edge_litert",
    "cv2",
    "jax",
    "keras",
    "matplotlib",
    "pandas",
    "PIL",
    "pycocotools",
    "rich",
    "scipy",
    "sklearn",
    "sqlalchemy",
    "tensorboard",
    "tensorflow",
    "tensorflow_model_optimization",
    "tf_keras",
}
# Modules that the others hand around, or that answer before any work is done.
LIGHT = (
    "mess_tf/cli.py",
    "mess_tf/cli_table.py",
    "mess_tf/doors.py",
    "mess_tf/errors.py",
    "mess_tf/files.py",
    "mess_tf/progress.py",
    "mess_tf/quiet.py",
    "mess_tf/recipe.py",
    "mess_tf/recipe_files.py",
    "mess_tf/recipe_sections.py",
    "mess_tf/records.py",
    "mess_tf/runs.py",
    "mess_tf/settings.py",
    "android_bench/errors.py",
    "android_bench/records.py",
)
# What one package may import of another.
DOORS = {
    "mess_tf": set(),
    "android_bench": set(),
    "search": {
        "mess_tf.errors",
        "mess_tf.files",
        "mess_tf.records",
        "android_bench.records",
        "android_bench.store",
    },
}
# Where TensorFlow itself is needed: converting, and two doors to its CPU kernels.
TENSORFLOW_IN = (
    "mess_tf/compiling/",
    "mess_tf/quantising/",
    "mess_tf/models/batch_norm.py",
    "mess_tf/training/step_model.py",
)
# Keras 2 and its model optimisation: quantisation-aware training alone, by one door
# that keeps them from changing what `tf.keras` is for the rest of the process.
LEGACY = {"tf_keras", "tensorflow_model_optimization"}
LEGACY_IN = "mess_tf/quantising/legacy.py"
STDLIB_ONLY = ("mess_tf/cli.py", "mess_tf/cli_table.py", "mess_tf/doors.py")


def name_of(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def parse(source: str) -> Iterator[tuple[str, int, bool]]:
    """(module, line, whether it is imported with the file) of every import."""
    tree = ast.parse(source)
    deferred = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        at_once = id(node) not in deferred
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno, at_once
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                yield "." * node.level, node.lineno, at_once
            else:
                # `from a import b` may name module a.b: both are looked at.
                yield node.module or "", node.lineno, at_once
                for alias in node.names:
                    yield f"{node.module}.{alias.name}", node.lineno, at_once


def imports(file: Path) -> Iterator[tuple[str, int, bool]]:
    yield from parse(file.read_text(encoding="utf-8"))


def crossings(source: str, package: str) -> list[str]:
    """Imports of another package that its doors do not allow."""
    allowed = DOORS[package]
    found = []
    for module, line, _ in parse(source):
        top = module.partition(".")[0]
        if top not in PACKAGES or top == package:
            continue
        if any(module == door or module.startswith(f"{door}.") for door in allowed):
            continue
        # `from mess_tf import records` names the package first, then the door.
        if any(door.startswith(f"{module}.") for door in allowed) and any(
            other != module and other.startswith(f"{module}.") and at == line
            for other, at, _ in parse(source)
        ):
            continue
        found.append(f"line {line}: {module}")
    return found


def test_the_rule_itself_sees_what_it_must() -> None:
    assert crossings("import search.exact", "mess_tf")
    assert crossings("def f():\n    from android_bench.store import Store", "mess_tf")
    assert crossings("from mess_tf import supernet", "search")
    assert crossings("from mess_tf.supernet import Supernet", "search")
    assert crossings("import mess_tf", "search")
    assert not crossings("from mess_tf import records", "search")
    assert not crossings("from mess_tf.records import HeadSpec", "search")
    assert not crossings("from search.exact import solve", "search")


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_packages_meet_only_at_their_doors(file: Path) -> None:
    package = file.relative_to(ROOT).parts[0]
    assert crossings(file.read_text(encoding="utf-8"), package) == []


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_imports_are_absolute(file: Path) -> None:
    assert [line for module, line, _ in imports(file) if module.startswith(".")] == []


@pytest.mark.parametrize(
    "file",
    [f for f in FILES if f.name == "__init__.py" or name_of(f) in LIGHT],
    ids=name_of,
)
def test_light_modules_import_nothing_heavy(file: Path) -> None:
    heavy = [
        (module, line)
        for module, line, at_once in imports(file)
        if at_once and module.partition(".")[0] in HEAVY
    ]
    assert heavy == []


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_frameworks_stay_in_their_rooms(file: Path) -> None:
    name = name_of(file)
    tops = {module.partition(".")[0] for module, _, _ in imports(file)}
    if not name.startswith(TENSORFLOW_IN):
        assert "tensorflow" not in tops
    if name != LEGACY_IN:
        assert not tops & LEGACY
    if not name.startswith("mess_tf/"):
        assert not tops & {"keras", "tf_keras", "jax", "tensorflow"}
    if name.startswith("search/"):
        assert not tops & {"ai_edge_litert", "adb_shell", "adbutils"}


@pytest.mark.parametrize("name", STDLIB_ONLY)
def test_the_command_line_needs_the_standard_library_only(name: str) -> None:
    tops = {m.partition(".")[0] for m, _, at_once in imports(ROOT / name) if at_once}
    assert tops - set(sys.stdlib_module_names) <= {"mess_tf"}


def modules_after(code: str) -> set[str]:
    """Top-level modules that are loaded after ``code`` ran in a fresh Python."""
    tail = "\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code + tail],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        check=True,
    )
    loaded = json.loads(done.stdout.splitlines()[-1])
    return {module.partition(".")[0] for module in loaded}


def test_light_modules_load_nothing_heavy_through_others() -> None:
    names = [name.removesuffix(".py").replace("/", ".") for name in LIGHT]
    names += ["mess_tf.policies", "mess_tf.exits", *PACKAGES]
    code = "\n".join(f"import {name}" for name in names)
    assert modules_after(code) & HEAVY == set()


def test_search_loads_no_framework() -> None:
    modules = [
        name_of(file).removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        for file in FILES
        if name_of(file).startswith("search/")
    ]
    code = "\n".join(f"import {name}" for name in modules)
    frameworks = {"tensorflow", "keras", "jax", "ai_edge_litert", "adb_shell"}
    assert modules_after(code) & frameworks == set()


def test_help_loads_neither_numpy_nor_a_framework() -> None:
    code = (
        "from mess_tf.cli import main\n"
        "try:\n    main(['train', '--help'])\nexcept SystemExit:\n    pass"
    )
    assert modules_after(code) & (HEAVY | {"numpy"}) == set()

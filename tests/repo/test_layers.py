"""What import-linter cannot say: what is loaded together with a module.

Which package and room may import which is held by the contracts in ``pyproject.toml``
(``lint-imports``, run by ``make check``).
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mess_tf.converting.decision_graphs import add_resize
from mess_tf.exporting.embedded_card import CARD_SCHEMA, with_card
from mess_tf.flatbuffer.graph_builder import ModelBuilder

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
# Beside every ``__init__``: what is loaded before any work is done, or everywhere.
LIGHT_FOLDERS = ("mess_tf/core/", "mess_tf/recipe/", "mess_tf/terminal/", "search/")
LIGHT = (
    "mess_tf/cli.py",
    "mess_tf/commands/arguments.py",
    "mess_tf/commands/signatures.py",
    "mess_tf/runs.py",
)


def name_of(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def module_of(file: Path) -> str:
    name = name_of(file).removesuffix(".py").replace("/", ".")
    return name.removesuffix(".__init__")


def is_light(file: Path) -> bool:
    name = name_of(file)
    return file.name == "__init__.py" or name in LIGHT or name.startswith(LIGHT_FOLDERS)


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


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_are_absolute(package: str) -> None:
    relative = [
        f"{name_of(file)}:{node.lineno}"
        for file in FILES
        if name_of(file).startswith(f"{package}/")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert relative == []


def test_light_modules_load_nothing_heavy() -> None:
    code = "\n".join(f"import {module_of(file)}" for file in FILES if is_light(file))
    assert modules_after(code) & HEAVY == set()


@pytest.mark.parametrize("command", ["train", "search"])
def test_help_loads_neither_numpy_nor_a_framework(command: str) -> None:
    code = (
        "from mess_tf.cli import main\n"
        f"try:\n    main([{command!r}, '--help'])\nexcept SystemExit:\n    pass"
    )
    assert modules_after(code) & (HEAVY | {"numpy"}) == set()


FRAMEWORKS = {"tensorflow", "keras", "tf_keras", "jax", "matplotlib", "sklearn"}


def tiny_export(path: Path) -> None:
    """Writes an exported file of 8 x 8 pixels that halves its image to logits."""
    builder = ModelBuilder()
    graph = builder.add_graph("main")
    image = graph.add_tensor("image", (1, 8, 8, 3), "float32")
    logits = add_resize(graph, image, (4, 4))
    number = np.array([2], np.int32)
    exit_number = graph.add_tensor("exit", (1,), "int32", value=number)
    graph.inputs, graph.outputs = [image], [logits, exit_number]
    graph.rename(logits, "logits")
    card = {
        "schema": CARD_SCHEMA,
        "form": {"form": "linked"},
        "preprocessing": {"mean": [0.0] * 3, "std": [1.0] * 3},
        "palette": [[0, 0, 0], [255, 0, 0], [0, 255, 0]],
        "classes": ["red", "green", "blue"],
        "thresholds": {"default": [], "input": False},
        "exits": [{"exit": 2}],
    }
    path.write_bytes(with_card(builder.finish(), card))


def test_an_export_runs_in_python_without_a_framework(tmp_path: Path) -> None:
    tiny_export(tmp_path / "model.tflite")
    loaded = modules_after(
        "import mess_tf, numpy as np\n"
        f"model = mess_tf.LinkedModel({str(tmp_path / 'model.tflite')!r})\n"
        "answer = model.run(np.ones((8, 8, 3), np.float32))\n"
        "assert answer.exit == 2 and answer.logits.shape == (4, 4, 3)"
    )
    assert "ai_edge_litert" in loaded
    assert loaded & FRAMEWORKS == set()


def test_mess_run_loads_no_framework(tmp_path: Path) -> None:
    tiny_export(tmp_path / "model.tflite")
    Image.new("RGB", (8, 8), (0, 0, 200)).save(tmp_path / "blue.png")
    arguments = [
        "run", str(tmp_path / "model.tflite"), str(tmp_path / "blue.png"),
        "--output", str(tmp_path / "overlays"),
    ]  # fmt: skip
    loaded = modules_after(
        f"from mess_tf.cli import main\nassert main({arguments!r}) == 0"
    )
    assert (tmp_path / "overlays/blue.png").is_file()
    assert "ai_edge_litert" in loaded
    assert loaded & FRAMEWORKS == set()

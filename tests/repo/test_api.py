"""``import mess_tf``: the names a user needs, and nothing heavy before their use."""

from __future__ import annotations

import inspect
import pkgutil
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import pytest

import mess_tf
from android_bench.options import MeasureOptions
from mess_tf.commands.arguments import as_tuple, check_choice, next_command
from mess_tf.commands.search_options import SearchOptions
from mess_tf.core.errors import MessError, UsageError
from mess_tf.exporting.options import ExportForm
from search.requirement import Requirement

ROOT = Path(__file__).resolve().parents[2]


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_package_shows_commands_and_little_else() -> None:
    others = {"LinkedModel", "MessError", "__version__", "adopt", "flatten"}
    records = {"ExportForm", "MeasureOptions", "Requirement", "SearchOptions"}
    assert set(dir(mess_tf)) == set(mess_tf.COMMANDS) | others | records
    assert mess_tf.__version__.count(".") == 2
    with pytest.raises(AttributeError, match="'trian'"):
        mess_tf.trian  # noqa: B018


def test_looking_at_the_package_loads_nothing() -> None:
    code = "import mess_tf, sys; dir(mess_tf); mess_tf.__version__; mess_tf.MessError"
    heavy = "[m for m in ('numpy', 'keras', 'tensorflow', 'rich') if m in sys.modules]"
    assert python(f"{code}; print({heavy})") == "[]"


def test_no_module_within_takes_the_name_of_a_function() -> None:
    """Importing it would put the module in the function's place."""
    within = {module.name for module in pkgutil.iter_modules(mess_tf.__path__)}
    assert within & set(dir(mess_tf)) == set()


@pytest.mark.parametrize("name", mess_tf.COMMANDS)
def test_every_command_is_typed_and_documented(name: str) -> None:
    function = getattr(mess_tf, name)
    assert function.__module__ == f"mess_tf.commands.{name}"
    signature = inspect.signature(function)
    hints = typing.get_type_hints(function)
    assert set(hints) == {*signature.parameters, "return"}
    about = inspect.getdoc(function) or ""
    assert "Returns:" in about
    missing = [p for p in signature.parameters if f"{p}" not in about]
    assert missing == []


def test_as_tuple_takes_one_or_many() -> None:
    assert as_tuple("host") == ("host",)
    assert as_tuple(Path("a.jpg")) == (Path("a.jpg"),)
    assert as_tuple(["a", "b"]) == ("a", "b")
    assert as_tuple(()) == ()


def test_a_wrong_choice_names_what_is_accepted() -> None:
    check_choice("form", None, ("linked",))
    check_choice("form", "linked", ("linked",))
    with pytest.raises(UsageError, match="form = 'x' is not accepted.*linked, single"):
        check_choice("form", "x", ("linked", "single"))


def test_the_next_command_can_be_typed_as_it_is() -> None:
    assert next_command("compile", "runs/a b") == "mess compile 'runs/a b'"
    line = next_command(
        "search",
        Path("r"),
        device=("host", "A B"),
        precision=None,
        threads=2,
        predicted=True,
        fresh=False,
        max_drop_pp="1",
    )
    assert line == (
        "mess search r --device host --device 'A B' --threads 2 --predicted"
        " --max-drop-pp 1"
    )


@pytest.mark.parametrize(
    ("name", "arguments", "refused"),
    [
        ("compile", {"precision": "int4"}, "int4"),
        ("evaluate", {"source": "onnx"}, "onnx"),
        ("profile", {"options": MeasureOptions(preset="long")}, "long"),  # type: ignore[arg-type]
        ("profile", {"options": MeasureOptions(delegate="npu")}, "npu"),  # type: ignore[arg-type]
        ("quantise", {"precision": "dynamic"}, "dynamic"),
        ("export", {"form": ExportForm(form="onnx")}, "onnx"),  # type: ignore[arg-type]
        ("export", {"form": ExportForm(input="float16")}, "float16"),  # type: ignore[arg-type]
        ("export", {"form": ExportForm(answer="image")}, "image"),  # type: ignore[arg-type]
    ],
)
def test_what_the_command_line_refuses_is_refused_from_python_too(
    tmp_path: Path, name: str, arguments: dict[str, Any], refused: str
) -> None:
    with pytest.raises(MessError, match=refused):
        getattr(mess_tf, name)(tmp_path, **arguments)


@pytest.mark.parametrize(
    ("record", "arguments"),
    [
        (SearchOptions, {"setting": "static"}),
        (SearchOptions, {"engine": "spark"}),
        (Requirement, {"robust": "very"}),
    ],
)
def test_records_refuse_what_the_command_line_refuses(
    record: type, arguments: dict[str, str]
) -> None:
    with pytest.raises(MessError, match=next(iter(arguments.values()))):
        record(**arguments)

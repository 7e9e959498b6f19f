"""The command line: one line per mistake, right exit codes, right arguments."""

from __future__ import annotations

import ast
import json
import os
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mess_tf import cli
from mess_tf.cli_table import COMMANDS, Command, Option
from mess_tf.core.errors import MessError, UsageError
from mess_tf.terminal.output_capture import begin_log
from mess_tf.terminal.progress import progress

ROOT = Path(__file__).resolve().parents[2]
NAMES = (
    "quickstart train compile evaluate devices profile search quantise export check run"
    " report info"
)


class Fake:
    """A command whose behaviour a test sets; remembers how it was called."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.result: dict[str, Any] = {}
        self.error: BaseException | None = None

    def __call__(self, **arguments: Any) -> dict[str, Any]:
        self.calls.append(arguments)
        os.write(1, b"chatter of a library\n")
        os.write(2, b"more chatter\n")
        if self.error is not None:
            raise self.error
        return self.result


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    command = Fake()
    module = types.ModuleType("fake_command")
    module.fake = command  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "fake_command", module)
    for name, row in COMMANDS.items():
        monkeypatch.setitem(COMMANDS, name, row._replace(target="fake_command:fake"))
    return command


def test_all_commands_are_there() -> None:
    assert list(COMMANDS) == NAMES.split()


@pytest.mark.parametrize("name", NAMES.split())
def test_every_command_explains_itself(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main([name, "--help"])
    assert left.value.code == 0
    words = capsys.readouterr().out
    assert all(option.help.split()[0] in words for option in COMMANDS[name].options)


@pytest.mark.parametrize("name", NAMES.split())
def test_options_are_the_functions_parameters_with_the_same_defaults(name: str) -> None:
    defaults = _defaults(_definition(COMMANDS[name].target))
    record, _, target = COMMANDS[name].record.partition("=")
    if record:
        default = defaults[record]
        assert default is not None
        assert ast.unparse(default) == f"{target.split(':')[1]}()"
        fields = _defaults(_definition(target))
        defaults = {
            field: value
            for parameter, default in defaults.items()
            for field, value in (
                fields if parameter == record else {parameter: default}
            ).items()
        }
        inside = [o.name for o in COMMANDS[name].options if o.in_record]
        assert inside == list(fields)
    assert list(defaults) == [option.name for option in COMMANDS[name].options]
    for option in COMMANDS[name].options:
        default = defaults[option.name]
        if option.required:
            assert default is None
        else:
            assert default is not None, f"{option.name} has no default"
            assert _value(default) == option.default


def _definition(target: str) -> ast.FunctionDef | ast.ClassDef:
    module, _, name = target.partition(":")
    file = ROOT / (module.replace(".", "/") + ".py")
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return next(
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name
    )


def _defaults(definition: ast.FunctionDef | ast.ClassDef) -> dict[str, ast.expr | None]:
    """By parameter, or by field of a dataclass; None where there is no default."""
    if isinstance(definition, ast.ClassDef):
        fields = [node for node in definition.body if isinstance(node, ast.AnnAssign)]
        return {ast.unparse(field.target): field.value for field in fields}
    a = definition.args
    positional = [*a.posonlyargs, *a.args]
    defaults: dict[str, ast.expr | None] = {arg.arg: None for arg in positional}
    late = positional[len(positional) - len(a.defaults) :]
    defaults |= {arg.arg: d for arg, d in zip(late, a.defaults, strict=True)}
    defaults |= {k.arg: d for k, d in zip(a.kwonlyargs, a.kw_defaults, strict=True)}
    return defaults


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Call):  # Path("runs/quickstart")
        return Path(*(ast.literal_eval(arg) for arg in node.args))
    return ast.literal_eval(node)


def test_options_arrive_with_their_types(fake: Fake) -> None:
    assert cli.main(["search", "r", "--max-drop-pp", "1.5", "--max-early-exits=2"]) == 0
    (call,) = fake.calls
    assert call["run"] == Path("r")
    assert (call["max_drop_pp"], call["max_early_exits"]) == (1.5, 2)
    assert (call["precision"], call["device"]) == ("int8", [])
    assert set(call) == {option.name for option in COMMANDS["search"].options}


def test_repeated_options_do_not_leak_into_the_next_call(fake: Fake) -> None:
    cli.main(["train", "r", "--set", "a.b=1", "--set", "c.d=2"])
    cli.main(["train", "r"])
    assert [list(call["changes"]) for call in fake.calls] == [["a.b=1", "c.d=2"], []]


def test_several_images_and_switches(fake: Fake) -> None:
    cli.main(["run", "m.tflite", "a.jpg", "b.jpg", "--output", "o"])
    cli.main(["profile", "r", "--fresh"])
    assert fake.calls[0]["images"] == [Path("a.jpg"), Path("b.jpg")]
    assert fake.calls[0]["output"] == Path("o")
    assert fake.calls[1]["options"].fresh is True


def test_chatter_is_kept_off_the_terminal_and_the_result_is_shown(
    fake: Fake, capfd: pytest.CaptureFixture[str]
) -> None:
    fake.result = {"miou": 0.5}
    assert cli.main(["devices"]) == 0
    out, err = capfd.readouterr()
    assert (out, err) == ("miou: 0.5\n", "")


def test_chatter_goes_to_the_log_of_the_run(fake: Fake, tmp_path: Path) -> None:
    def train(**arguments: Any) -> dict[str, Any]:
        os.write(2, b"before there is a run\n")
        (arguments["run"] / "recipe.toml").touch()
        begin_log(log)
        result = fake(**arguments)
        assert log.read_text().endswith("more chatter\n")  # also if it were killed now
        return result

    log = tmp_path / "log.txt"
    sys.modules["fake_command"].fake = train  # type: ignore[attr-defined]
    for _ in range(2):  # the first call makes the run, the second finds it
        assert cli.main(["train", str(tmp_path)]) == 0
    text = log.read_text()
    assert text.count("before there is a run") == text.count("more chatter") == 2
    assert text.count(f"mess train {tmp_path}") == 2


def test_a_password_does_not_go_to_the_log(fake: Fake, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").touch()
    url = "postgresql://me:geheim@host/name"
    assert cli.main(["profile", str(tmp_path), "--store", url]) == 0
    log = (tmp_path / "log.txt").read_text()
    assert "postgresql://me:***@host/name" in log and "geheim" not in log
    assert fake.calls[0]["store"] == url


def test_debug_shows_the_chatter_and_the_trace(
    fake: Fake, capfd: pytest.CaptureFixture[str]
) -> None:
    fake.error = MessError("wrong")
    with pytest.raises(MessError):
        cli.main(["devices", "--debug"])
    assert "chatter of a library" in capfd.readouterr().out


def test_json_is_one_valid_document(
    fake: Fake, capfd: pytest.CaptureFixture[str]
) -> None:
    fake.result = {
        "path": Path("a/b"),
        "array": np.arange(3),
        "scalar": np.float32(0.5),
        "nan": float("nan"),
        "nested": {"tuple": (1, None, True, np.float64("inf"))},
    }
    assert cli.main(["devices", "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == {
        "path": "a/b",
        "array": [0, 1, 2],
        "scalar": 0.5,
        "nan": None,
        "nested": {"tuple": [1, None, True, None]},
    }


def test_render_beside_the_command_is_used(
    fake: Fake, capfd: pytest.CaptureFixture[str]
) -> None:
    fake.result = {"n": 3}
    sys.modules["fake_command"].render = (  # type: ignore[attr-defined]
        lambda result: f"{result['n']} devices"
    )
    cli.main(["devices"])
    assert capfd.readouterr().out == "3 devices\n"
    cli.main(["devices", "--quiet"])
    assert capfd.readouterr().out == ""


class ForeignError(Exception):
    exit_code = 1


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (MessError("No run."), 1, "mess: error: No run.\n"),
        (UsageError("Two\n  lines."), 2, "mess: error: Two lines.\n"),
        (ForeignError("No phone."), 1, "mess: error: No phone.\n"),
        (
            OSError(28, "No space left on device", "/x/y"),
            1,
            "mess: error: No space left on device: /x/y.\n",
        ),
        (
            ValueError("odd."),
            1,
            "mess: error: unexpected ValueError: odd. Add --debug to see where.\n",
        ),
    ],
)
def test_an_error_is_one_line_and_a_code(
    fake: Fake,
    capfd: pytest.CaptureFixture[str],
    error: Exception,
    code: int,
    line: str,
) -> None:
    fake.error = error
    assert cli.main(["devices"]) == code
    assert capfd.readouterr() == ("", line)


def test_failed_measurements_have_their_own_code(fake: Fake) -> None:
    fake.result = {"failed_measurements": 0}
    assert cli.main(["profile", "r"]) == 0
    fake.result = {"failed_measurements": ["head_1_fcn_r1_b0"]}
    assert cli.main(["profile", "r"]) == 3


def test_an_interruption_says_how_to_go_on(
    fake: Fake, capfd: pytest.CaptureFixture[str]
) -> None:
    fake.error = KeyboardInterrupt()
    assert cli.main(["train", "my run", "--recipe", "camvid"]) == 130
    error = capfd.readouterr().err
    assert "every finished epoch is kept" in error
    assert "`mess train 'my run' --recipe camvid` goes on" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("name", NAMES.split())
def test_every_command_says_what_an_interruption_leaves(name: str) -> None:
    assert COMMANDS[name].kept.format(line="`x`").count("`x`") == 1


def test_the_next_command_is_the_last_line_and_part_of_the_json(
    fake: Fake, capfd: pytest.CaptureFixture[str]
) -> None:
    fake.result = {"n": 3, "next": "mess export 'a b'"}
    sys.modules["fake_command"].render = (  # type: ignore[attr-defined]
        lambda result: f"{result['n']} pieces"
    )
    cli.main(["search", "a b"])
    assert capfd.readouterr().out == "3 pieces\nNext: mess export 'a b'\n"
    cli.main(["search", "a b", "--json"])
    assert json.loads(capfd.readouterr().out)["next"] == "mess export 'a b'"


def test_the_trace_of_a_mistake_of_ours_is_in_the_log(
    fake: Fake, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "recipe.toml").touch()
    fake.error = ValueError("odd.")
    assert cli.main(["compile", str(tmp_path)]) == 1
    log = tmp_path / "log.txt"
    assert f"ValueError: odd. {log} has the trace." in capfd.readouterr().err
    assert "Traceback" in log.read_text() and "in __call__" in log.read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trian"], "'trian'"),
        (["train"], "RUN"),
        (["train", "r", "--sed", "1"], "--sed"),
        (["search", "r", "--max-drop-pp", "much"], "much"),
        (["search", "r", "--precision", "int4"], "int4"),
        (["train", "r", "--rec", "x"], "--rec"),
    ],
)
def test_a_mistyped_command_line_is_one_line_and_code_2(
    fake: Fake, capfd: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(arguments)
    assert left.value.code == 2
    error = capfd.readouterr().err
    assert error.startswith("mess: error: ")
    assert words in error
    assert error.count("\n") == 1
    assert fake.calls == []


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert "quickstart" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(["--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out.startswith("mess ")


def test_a_percent_sign_in_help_is_harmless(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    option = Option("share", "90 % of images, %d %(prog)s", float, 0.5)
    monkeypatch.setitem(COMMANDS, "devices", Command("x:y", "100 %", "50 %", (option,)))
    with pytest.raises(SystemExit):
        cli.main(["devices", "--help"])
    assert "90 % of images, %d %(prog)s (default: 0.5)" in capsys.readouterr().out


def test_progress_is_no_obstacle_within_a_command(
    fake: Fake, capfd: pytest.CaptureFixture[str]
) -> None:
    def train(**arguments: Any) -> dict[str, Any]:
        with progress("Training", 2) as step:
            step()
        return {}

    sys.modules["fake_command"].fake = train  # type: ignore[attr-defined]
    assert cli.main(["train", "r"]) == 0
    assert capfd.readouterr().err == ""

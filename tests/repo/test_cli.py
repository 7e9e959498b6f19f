"""The command line: one line per mistake, right exit codes, right arguments."""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import re
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mess_tf
from mess_tf import cli
from mess_tf.commands.search_options import SearchOptions
from mess_tf.commands.signatures import LIBRARY_ONLY, REQUIRED, read_signature
from mess_tf.core.errors import MessError, UsageError
from mess_tf.terminal.output_capture import move_output_to_log
from mess_tf.terminal.progress import progress
from search.requirement import Requirement

ROOT = Path(__file__).resolve().parents[2]


class Fake:
    """A command whose behaviour a test sets; remembers how it was called."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.result: dict[str, Any] = {}
        self.error: BaseException | None = None
        self.function: Callable[..., dict[str, Any]] = self.answer
        self.render: Callable[[dict[str, Any]], str] | None = None

    def answer(self, **arguments: Any) -> dict[str, Any]:
        self.calls.append(arguments)
        os.write(1, b"chatter of a library\n")
        os.write(2, b"more chatter\n")
        if self.error is not None:
            raise self.error
        return self.result

    def main(self, arguments: Sequence[str]) -> int:
        return cli.main(arguments, lambda name: cli.Command(self.function, self.render))


@pytest.fixture
def fake() -> Fake:
    return Fake()


def help_of(name: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as left:
        cli.main([name, "--help"])
    assert left.value.code == 0
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("name", mess_tf.COMMANDS)
def test_every_command_and_option_explains_itself(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    text = help_of(name, capsys)
    signature = read_signature(name)
    assert signature.description in text
    for parameter in signature.parameters:
        assert len(parameter.help) > 5, parameter.name
        assert parameter.help in text


def test_the_list_of_commands_has_the_first_line_of_each(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert cli.main([]) == 2
    shown = capsys.readouterr().out
    for name in mess_tf.COMMANDS:
        about = inspect.getdoc(getattr(mess_tf, name)) or ""
        summary = about.splitlines()[0].replace("``", "`").removesuffix(".")
        assert re.search(rf"^    {name} +{re.escape(summary)}$", shown, re.M)


def expected_parameters(function: Callable[..., Any]) -> dict[str, Any]:
    """By name, the types and the default of what is to be given, as Python sees it."""
    hints = typing.get_type_hints(function)
    expected: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if not dataclasses.is_dataclass(hints[name]):
            expected[name] = (hints[name], parameter.default)
            continue
        inside = typing.get_type_hints(hints[name])
        for field in dataclasses.fields(hints[name]):
            if field.name not in LIBRARY_ONLY:
                expected[field.name] = (inside[field.name], field.default)
    return expected


def types_of(hint: Any) -> set[Any]:
    """The members of unions and sequences, of Literals their values."""
    inside = typing.get_args(hint)
    if not inside:
        return {hint}
    sequences = {Sequence, tuple}
    several: set[Any] = {"many"} if typing.get_origin(hint) in sequences else set()
    return several.union(*map(types_of, inside)) - {Ellipsis}


@pytest.mark.parametrize("name", mess_tf.COMMANDS)
def test_the_parser_is_the_functions_signature(name: str) -> None:
    expected = expected_parameters(getattr(mess_tf, name))
    read = {p.name: p for p in read_signature(name).parameters}
    assert list(read) == list(expected)
    for parameter in read.values():
        hint, default = expected[parameter.name]
        types = types_of(hint) - {type(None)}
        if default is inspect.Parameter.empty:
            default = REQUIRED
        assert parameter.default == default
        assert parameter.many == ("many" in types)
        assert parameter.is_file == (Path in types)
        assert set(parameter.choices) == {t for t in types - {"many"} if type(t) is str}
        plain = {t for t in types if isinstance(t, type)} - {Path}
        assert plain <= {parameter.kind}


@pytest.mark.parametrize("name", mess_tf.COMMANDS)
def test_no_command_has_more_than_eight_parameters(name: str) -> None:
    assert len(inspect.signature(getattr(mess_tf, name)).parameters) <= 8


def test_options_arrive_with_their_types(fake: Fake) -> None:
    assert (
        fake.main(["search", "r", "--max-drop-pp", "1.5", "--max-early-exits=2"]) == 0
    )
    assert fake.calls == [
        {
            "run": "r",
            "requirement": Requirement(max_drop_pp=1.5),
            "options": SearchOptions(max_early_exits=2),
            "device": (),
            "precision": "int8",
            "threads": None,
            "predicted": False,
        }
    ]


@pytest.mark.parametrize("name", mess_tf.COMMANDS)
def test_a_command_line_without_options_is_a_call_without_options(
    fake: Fake, name: str
) -> None:
    function = getattr(mess_tf, name)
    signature = inspect.signature(function)
    required = [p for p in signature.parameters.values() if p.default is p.empty]
    assert fake.main([name, *("x" for _ in required)]) == 0
    (call,) = fake.calls
    bound = signature.bind(**{p.name: call[p.name] for p in required})
    bound.apply_defaults()
    assert call == bound.arguments


def test_repeated_options_do_not_leak_into_the_next_call(fake: Fake) -> None:
    fake.main(["train", "r", "--set", "a.b=1", "--set", "c.d=2"])
    fake.main(["train", "r"])
    assert [call["changes"] for call in fake.calls] == [("a.b=1", "c.d=2"), ()]


def test_several_images_and_switches(fake: Fake) -> None:
    fake.main(["run", "m.tflite", "a.jpg", "b.jpg", "--output", "o"])
    fake.main(["profile", "r", "--fresh"])
    assert fake.calls[0]["images"] == ("a.jpg", "b.jpg")
    assert fake.calls[0]["output"] == "o"
    assert fake.calls[1]["options"].fresh is True


def test_chatter_is_kept_off_the_terminal_and_the_result_is_shown(
    fake: Fake, capfd: pytest.CaptureFixture[str]
) -> None:
    fake.result = {"miou": 0.5}
    assert fake.main(["devices"]) == 0
    out, err = capfd.readouterr()
    assert (out, err) == ("miou: 0.5\n", "")


def test_chatter_goes_to_the_log_of_the_run(fake: Fake, tmp_path: Path) -> None:
    def train(**arguments: Any) -> dict[str, Any]:
        os.write(2, b"before there is a run\n")
        Path(arguments["run"], "recipe.toml").touch()
        move_output_to_log(log)
        result = fake.answer(**arguments)
        assert log.read_text().endswith("more chatter\n")  # also if it were killed now
        return result

    log = tmp_path / "log.txt"
    fake.function = train
    for _ in range(2):  # the first call makes the run, the second finds it
        assert fake.main(["train", str(tmp_path)]) == 0
    text = log.read_text()
    assert text.count("before there is a run") == text.count("more chatter") == 2
    assert text.count(f"mess train {tmp_path}") == 2


def test_a_password_does_not_go_to_the_log(fake: Fake, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").touch()
    url = "postgresql://me:geheim@host/name"
    assert fake.main(["profile", str(tmp_path), "--store", url]) == 0
    log = (tmp_path / "log.txt").read_text()
    assert "postgresql://me:***@host/name" in log and "geheim" not in log
    assert fake.calls[0]["store"] == url


def test_debug_shows_the_chatter_and_the_trace(
    fake: Fake, capfd: pytest.CaptureFixture[str]
) -> None:
    fake.error = MessError("wrong")
    with pytest.raises(MessError):
        fake.main(["devices", "--debug"])
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
    assert fake.main(["devices", "--json"]) == 0
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
    fake.render = lambda result: f"{result['n']} devices"
    fake.main(["devices"])
    assert capfd.readouterr().out == "3 devices\n"
    fake.main(["devices", "--quiet"])
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
    assert fake.main(["devices"]) == code
    assert capfd.readouterr() == ("", line)


def test_failed_measurements_have_their_own_code(fake: Fake) -> None:
    fake.result = {"failed_measurements": 0}
    assert fake.main(["profile", "r"]) == 0
    fake.result = {"failed_measurements": ["head_1_fcn_r1_b0"]}
    assert fake.main(["profile", "r"]) == 3


def test_an_interruption_says_how_to_go_on(
    fake: Fake, capfd: pytest.CaptureFixture[str]
) -> None:
    fake.error = KeyboardInterrupt()
    assert fake.main(["train", "my run", "--recipe", "camvid"]) == 130
    error = capfd.readouterr().err
    assert "every finished epoch is kept" in error
    assert "`mess train 'my run' --recipe camvid` goes on" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("name", mess_tf.COMMANDS)
def test_every_command_says_what_an_interruption_leaves(
    fake: Fake, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    fake.error = KeyboardInterrupt()
    required = sum(p.default is REQUIRED for p in read_signature(name).parameters)
    assert fake.main([name, *("x" * required)]) == 130
    line = " ".join(["mess", name, *("x" * required)])
    assert capfd.readouterr().err.count(f"`{line}`") == 1


def test_sentences_after_an_interruption_are_of_commands() -> None:
    assert set(cli.INTERRUPTED_COMMANDS) < set(mess_tf.COMMANDS)


def test_the_next_command_is_the_last_line_and_part_of_the_json(
    fake: Fake, capfd: pytest.CaptureFixture[str]
) -> None:
    fake.result = {"n": 3, "next": "mess export 'a b'"}
    fake.render = lambda result: f"{result['n']} pieces"
    fake.main(["search", "a b"])
    assert capfd.readouterr().out == "3 pieces\nNext: mess export 'a b'\n"
    fake.main(["search", "a b", "--json"])
    assert json.loads(capfd.readouterr().out)["next"] == "mess export 'a b'"


def test_the_trace_of_a_mistake_of_ours_is_in_the_log(
    fake: Fake, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "recipe.toml").touch()
    fake.error = ValueError("odd.")
    assert fake.main(["compile", str(tmp_path)]) == 1
    log = tmp_path / "log.txt"
    assert f"ValueError: odd. {log} has the trace." in capfd.readouterr().err
    assert "Traceback" in log.read_text() and "in answer" in log.read_text()


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
        fake.main(arguments)
    assert left.value.code == 2
    error = capfd.readouterr().err
    assert error.startswith("mess: error: ")
    assert words in error
    assert error.count("\n") == 1
    assert fake.calls == []


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(["--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out.startswith("mess ")


def test_a_percent_sign_in_help_is_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    assert "latency of 90 % of the images" in help_of("search", capsys)
    with pytest.raises(SystemExit):
        cli.main(["--help"])


def test_progress_is_no_obstacle_within_a_command(
    fake: Fake, capfd: pytest.CaptureFixture[str]
) -> None:
    def train(**arguments: Any) -> dict[str, Any]:
        with progress("Training", 2) as step:
            step()
        return {}

    fake.function = train
    assert fake.main(["train", "r"]) == 0
    assert capfd.readouterr().err == ""

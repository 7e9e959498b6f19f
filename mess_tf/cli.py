"""The command ``mess``: reads the command line, calls one function, shows its answer.

Standard library only, and nothing of the project's heavy parts: ``mess --help`` must
answer at once. Every command is one call of the public function of the same name in
``mess_tf.commands.<name>``, imported when it is run. Its arguments and options are the
function's parameters (``mess_tf.commands.signatures`` reads them from the source). It
prints nothing and returns a dict of plain values (what ``--json`` prints). A function
``render(result)`` beside it turns that dict into the text a person reads.

Exit codes: 0 done, 1 failed, 2 used wrongly, 3 finished with failed measurements (the
result's ``failed_measurements`` is not empty), 130 interrupted. A result's ``next`` is
the command to type next.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import math
import os
import re
import shlex
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import mess_tf
from mess_tf.commands.signatures import (
    REQUIRED,
    Parameter,
    module_of,
    read_signature,
    read_summary,
)
from mess_tf.core.tensorflow_environment import set_tensorflow_defaults
from mess_tf.terminal.output_capture import capture_output
from mess_tf.terminal.progress import show_progress

OK, FAILED, USAGE, FAILED_MEASUREMENTS, INTERRUPTED = 0, 1, 2, 3, 130
SHELLS = ("bash", "zsh")

# Said after Ctrl-C: what is kept, and how to go on; {line} is the command as typed.
INTERRUPTED_COMMANDS = {
    "quickstart": "every finished step is kept, of training every epoch; {line} goes"
    " on.",
    "train": "every finished epoch is kept; {line} goes on after the last one.",
    "compile": "precisions that were finished are kept; {line} makes them anew.",
    "evaluate": "the images done so far are kept, but for the last few; {line} goes"
    " on.",
    "profile": "every measurement is kept; {line} goes on (leave --fresh out).",
    "search": "requirements that were answered are kept; {line} asks all of them"
    " again.",
    "quantise": "every finished epoch is kept; {line} goes on after the last one.",
    "export": "files that were finished are kept; {line} writes all of them again.",
    "check": "checks that were finished are kept; {line} makes all of them again.",
    "run": "overlays that were finished are kept; {line} begins anew.",
}
NOTHING_KEPT = "nothing was written; {line} begins anew."

# Flags that are not made of the parameter's name, and what stands for their value.
FLAGS = {
    "changes": ("--set", "KEY=VALUE"),
    "deadline": ("", "MS[:WEIGHT]"),
    "source": ("--from", "SOURCE"),
}
UNITS = {"mb": "MB", "ms": "MS", "pp": "PP", "s": "SECONDS"}


class Command(NamedTuple):
    """What a command's module has: the function, and what makes text of its result."""

    function: Callable[..., dict[str, Any]]
    render: Callable[[dict[str, Any]], str] | None = None


def find_command(name: str) -> Command:
    """Imports a command."""
    module = importlib.import_module(module_of(name))
    return Command(getattr(module, name), getattr(module, "render", None))


def main(
    arguments: Sequence[str] | None = None,
    find: Callable[[str], Command] = find_command,
) -> int:
    """Runs one command line; returns the exit code.

    Args:
        arguments: of the command line; None takes the process's.
        find: gives a command by its name.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = _make_parser()
    given = vars(parser.parse_args(arguments))
    name = given.pop("command")
    if name is None:
        parser.print_help()
        return USAGE
    as_json, silent, debug = (given.pop(k) for k in ("as_json", "quiet", "debug"))
    show_progress("off" if silent else "lines")
    line = shlex.join(["mess", *arguments])
    log = _log_of(given.get("run") or given.get("target"))
    try:
        with _logged(line, log, debug):
            command = find(name)
            result = command.function(**_with_records(name, given))
        if as_json:
            print(json.dumps(_plain(result), indent=1))
        elif not silent:
            print(_text(command, result))
        sys.stdout.flush()
    except KeyboardInterrupt:
        _print_message("interrupted", _after_interruption(name, f"`{line}`"))
        return INTERRUPTED
    except BrokenPipeError:
        # The reader went away (`mess report | head`); nobody is left to tell. Python
        # would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        if debug:
            raise
        return _explain(error, _log_of(given.get("run") or given.get("target")))
    return FAILED_MEASUREMENTS if result.get("failed_measurements") else OK


@contextlib.contextmanager
def _logged(line: str, log: Path | None, debug: bool) -> Iterator[None]:
    """Sends what is printed, and the trace of an error, into the log of the run."""
    set_tensorflow_defaults()
    if debug:
        yield
        return
    with capture_output(log):
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        print(f"--- {now} {_without_passwords(line)}", flush=True)
        try:
            yield
        except Exception:
            traceback.print_exc()  # into the log
            raise


def _with_records(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a command's function; some options are fields of a record."""
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    for parameter, record in read_signature(name).records.items():
        make = getattr(importlib.import_module(record.module), record.name)
        fields = {field: values.pop(field) for field in record.fields}
        values[parameter] = make(**fields)
    return values


def _after_interruption(name: str, line: str) -> str:
    return INTERRUPTED_COMMANDS.get(name, NOTHING_KEPT).format(line=line)


def _without_passwords(line: str) -> str:
    """A command line as it may stand in a log that others read."""
    return re.sub(r"(://[^\s:/@]*):[^\s/]*@", r"\1:***@", line)


def _log_of(run: str | None) -> Path | None:
    """The log of a run folder (``mess_tf.runs.Run.log``); None if it is no run yet."""
    return Path(run, "log.txt") if run and Path(run, "recipe.toml").is_file() else None


def _explain(error: Exception, log: Path | None) -> int:
    """Prints an error in one line; returns its exit code."""
    message = " ".join(str(error).split())
    code = getattr(error, "exit_code", None)
    if isinstance(code, int):
        _print_message("error", message)
        return code
    if isinstance(error, OSError) and error.strerror:
        _print_message("error", f"{error.strerror}: {error.filename or message}.")
        return FAILED
    # A mistake of ours, not of the user's: say so, and how to see where.
    kind = type(error).__name__
    where = f"{log} has the trace." if log else "Add --debug to see where."
    _print_message("error", f"unexpected {kind}: {message.rstrip('.')}. {where}")
    return FAILED


def _print_message(kind: str, message: str) -> None:
    print(f"mess: {kind}: {message}", file=sys.stderr)


def _text(command: Command, result: dict[str, Any]) -> str:
    if command.render is not None:
        text = str(command.render(result))
    else:
        text = "\n".join(f"{key}: {value}" for key, value in result.items())
    return f"{text}\nNext: {result['next']}" if result.get("next") else text


def _plain(value: Any) -> Any:
    """``value`` in JSON's types; numbers that JSON lacks become null."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # numpy's scalars and arrays
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    return str(value)


class _Parser(argparse.ArgumentParser):
    """Tells a mistake in one line, without the wall of usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"mess: error: {message}. See `{self.prog} --help`.\n")


class _CommandParser(_Parser):
    """The parser of one command; reads its signature when it is first needed."""

    command: str | None = None

    def parse_known_args(self, *args: Any, **kwargs: Any) -> Any:
        self.fill()
        return super().parse_known_args(*args, **kwargs)

    def fill(self) -> None:
        """Adds the command's arguments and options."""
        if self.command is None:
            return
        signature = read_signature(self.command)
        self.command = None
        self.description = signature.description.replace("%", "%%")
        for parameter in signature.parameters:
            _add(self, parameter)
        self.add_argument(
            "--json", dest="as_json", action="store_true", help=_JSON_HELP
        )
        self.add_argument(
            "--quiet", action="store_true", help="print nothing but errors"
        )
        self.add_argument("--debug", action="store_true", help=_DEBUG_HELP)


class _Version(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
        print(f"mess {mess_tf.__version__}")
        parser.exit(OK)


# A zsh whose user has set nothing up knows no `compdef` yet.
_ZSH_BEGINS = "(( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i }"


class _Completion(argparse.Action):
    """Prints what a shell completes commands, options and files with."""

    def __call__(
        self, parser: argparse.ArgumentParser, _: Any, shell: Any, *__: Any
    ) -> None:
        import shtab

        for one in _commands_of(parser):
            one.fill()
            for action in one._actions:
                if action.type is _file_name:
                    action.complete = shtab.FILE  # type: ignore[attr-defined]
        begins = _ZSH_BEGINS if shell == "zsh" else ""
        print(shtab.complete(parser, shell, preamble=begins))
        parser.exit(OK)


def _commands_of(parser: argparse.ArgumentParser) -> list[_CommandParser]:
    """The parsers of the commands."""
    kind = argparse._SubParsersAction
    (commands,) = (action for action in parser._actions if isinstance(action, kind))
    return list(commands.choices.values())


def _make_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="mess",
        description="Multi-exit semantic segmentation, fitted to a device.",
        epilog="Start with `mess quickstart`. `mess COMMAND --help` explains more."
        ' Completion: eval "$(mess --completion bash)".',
        allow_abbrev=False,
    )
    parser.add_argument(
        "--version",
        action=_Version,
        nargs=0,
        default=argparse.SUPPRESS,
        help="print the version and leave",
    )
    parser.add_argument(
        "--completion",
        action=_Completion,
        choices=SHELLS,
        default=argparse.SUPPRESS,
        help="print what completes commands in this shell, and leave",
    )
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", parser_class=_CommandParser
    )
    for name in mess_tf.COMMANDS:
        words = read_summary(name).replace("%", "%%")
        sub = commands.add_parser(name, help=words, allow_abbrev=False)
        sub.command = name
    return parser


_JSON_HELP = "print the result as JSON"
_DEBUG_HELP = "show everything the libraries print, and where an error arose"


def _add(parser: argparse.ArgumentParser, parameter: Parameter) -> None:
    # A percent sign would be read as one of argparse's placeholders.
    words = parameter.help.replace("%", "%%")
    flag, metavar = FLAGS.get(parameter.name, ("", ""))
    flag = flag or "--" + parameter.name.replace("_", "-")
    if parameter.kind is bool:
        parser.add_argument(
            flag, dest=parameter.name, action="store_true", default=False, help=words
        )
        return
    required = parameter.default is REQUIRED
    if not required and parameter.default not in (None, ()):
        words = f"{words} (default: {parameter.default})"
    settings: dict[str, Any] = {
        "help": words,
        "type": _file_name if parameter.is_file else parameter.kind,
    }
    if parameter.choices:
        settings["choices"] = parameter.choices
    if parameter.positional:
        if parameter.many:
            settings["nargs"] = "+" if required else "*"
        elif not required:
            settings |= {"nargs": "?", "default": parameter.default}
        name = parameter.name
        parser.add_argument(name, metavar=name.upper(), **settings)
        return
    if not parameter.choices:
        settings["metavar"] = metavar or _metavar(parameter)
    if parameter.many:
        # argparse would append to the default itself: it must be a new list.
        settings |= {"action": "append", "default": []}
    else:
        settings["default"] = parameter.default
    parser.add_argument(flag, dest=parameter.name, **settings)


def _metavar(parameter: Parameter) -> str:
    """What stands for an option's value in the help: a unit, N, FILE or the name."""
    last = parameter.name.rpartition("_")[2]
    if parameter.kind is int:
        return "N"
    if parameter.kind is float and last in UNITS:
        return UNITS[last]
    return last.upper()


def _file_name(text: str) -> str:
    """Type of an argument that shells complete with files."""
    return text


if __name__ == "__main__":
    sys.exit(main())

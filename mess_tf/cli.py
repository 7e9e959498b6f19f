"""The command ``mess``: reads the command line, calls one function, shows its answer.

Standard library only, and nothing of the project's heavy parts: ``mess --help`` must
answer at once. Every command is one call of the public function of the same name in
``mess_tf.commands.<name>``, found by text when it is run. Its keyword arguments are
the options of ``mess_tf.cli_table`` with the same names and defaults; it prints
nothing and returns a dict of plain values (what ``--json`` prints). A function
``render(result)`` beside it turns that dict into the text a person reads.

Exit codes: 0 done, 1 failed, 2 used wrongly, 3 finished with failed measurements (the
result's ``failed_measurements`` is not empty), 130 interrupted. A result's ``next`` is
the command to type next.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import re
import shlex
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from mess_tf.cli_table import COMMANDS, Command, Option
from mess_tf.core.tensorflow_environment import set_tensorflow_defaults
from mess_tf.terminal.output_capture import quiet
from mess_tf.terminal.progress import show_progress

OK, FAILED, USAGE, FAILED_MEASUREMENTS, INTERRUPTED = 0, 1, 2, 3, 130
SHELLS = ("bash", "zsh")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line; returns the exit code."""
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
    try:
        result = _call(COMMANDS[name], given, line, debug)
        if as_json:
            print(json.dumps(_plain(result), indent=1))
        elif not silent:
            print(_render(COMMANDS[name], result))
        sys.stdout.flush()
    except KeyboardInterrupt:
        _tell("interrupted", COMMANDS[name].kept.format(line=f"`{line}`"))
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


def _call(
    command: Command, given: dict[str, Any], line: str, debug: bool
) -> dict[str, Any]:
    set_tensorflow_defaults()
    if debug:
        return _resolve(command.target)(**given)
    with quiet(_log_of(given.get("run") or given.get("target"))):
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        print(f"--- {now} {_without_passwords(line)}", flush=True)
        try:
            result = _resolve(command.target)(**given)
        except Exception:
            traceback.print_exc()  # into the log
            raise
    return result


def _resolve(target: str) -> Callable[..., dict[str, Any]]:
    """The function that ``"module:name"`` names, imported only now."""
    module, _, name = target.partition(":")
    function: Callable[..., dict[str, Any]] = getattr(
        importlib.import_module(module), name
    )
    return function


def _without_passwords(line: str) -> str:
    """A command line as it may stand in a log that others read."""
    return re.sub(r"(://[^\s:/@]*):[^\s/]*@", r"\1:***@", line)


def _log_of(run: Path | None) -> Path | None:
    """The log of a run folder (``mess_tf.runs.Run.log``); None if it is no run yet."""
    return run / "log.txt" if run and (run / "recipe.toml").is_file() else None


def _explain(error: Exception, log: Path | None) -> int:
    """Tells an error in one line; returns its exit code."""
    message = " ".join(str(error).split())
    code = getattr(error, "exit_code", None)
    if isinstance(code, int):
        _tell("error", message)
        return code
    if isinstance(error, OSError) and error.strerror:
        _tell("error", f"{error.strerror}: {error.filename or message}.")
        return FAILED
    # A mistake of ours, not of the user's: say so, and how to see where.
    kind = type(error).__name__
    where = f"{log} has the trace." if log else "Add --debug to see where."
    _tell("error", f"unexpected {kind}: {message.rstrip('.')}. {where}")
    return FAILED


def _tell(kind: str, message: str) -> None:
    print(f"mess: {kind}: {message}", file=sys.stderr)


def _render(command: Command, result: dict[str, Any]) -> str:
    render = getattr(sys.modules[command.target.partition(":")[0]], "render", None)
    if render is not None:
        text = str(render(result))
    else:
        text = "\n".join(f"{key}: {value}" for key, value in result.items())
    return f"{text}\nNext: {result['next']}" if result.get("next") else text


def _plain(value: Any) -> Any:
    """``value`` in JSON's own types; numbers that JSON lacks become null."""
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


class _Version(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
        import mess_tf

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

        for one in _parsers(parser):
            for action in one._actions:
                if action.type is Path:
                    action.complete = shtab.FILE  # type: ignore[attr-defined]
        begins = _ZSH_BEGINS if shell == "zsh" else ""
        print(shtab.complete(parser, shell, preamble=begins))
        parser.exit(OK)


def _parsers(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """A parser and those of its commands."""
    kind = argparse._SubParsersAction
    (commands,) = (action for action in parser._actions if isinstance(action, kind))
    return [parser, *commands.choices.values()]


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
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, command in COMMANDS.items():
        sub = commands.add_parser(
            name,
            help=command.help,
            description=command.description,
            allow_abbrev=False,
        )
        for option in command.options:
            _add(sub, option)
        sub.add_argument("--json", dest="as_json", action="store_true", help=_JSON_HELP)
        sub.add_argument(
            "--quiet", action="store_true", help="print nothing but errors"
        )
        sub.add_argument("--debug", action="store_true", help=_DEBUG_HELP)
    return parser


_JSON_HELP = "print the result as JSON"
_DEBUG_HELP = "show everything the libraries print, and where an error arose"


def _add(parser: argparse.ArgumentParser, option: Option) -> None:
    # A percent sign would be read as one of argparse's own placeholders.
    words = option.help.replace("%", "%%")
    settings: dict[str, Any] = {"help": words}
    if option.kind is bool:
        parser.add_argument(
            option.flag,
            dest=option.name,
            action="store_true",
            default=False,
            **settings,
        )
        return
    if option.default not in (None, ()):
        settings["help"] = f"{words} (default: {option.default})"
    settings["type"] = option.kind
    if option.choices:
        settings["choices"] = option.choices
    if option.positional:
        if option.many:
            settings["nargs"] = "+" if option.required else "*"
        elif not option.required:
            settings |= {"nargs": "?", "default": option.default}
        parser.add_argument(option.name, metavar=option.name.upper(), **settings)
        return
    if not option.choices:
        settings["metavar"] = option.metavar or option.kind.__name__.upper()
    if option.many:
        # argparse would append to the default itself: it must be a list of its own.
        settings |= {"action": "append", "default": []}
    else:
        settings["default"] = option.default
    parser.add_argument(option.flag, dest=option.name, **settings)


if __name__ == "__main__":
    sys.exit(main())

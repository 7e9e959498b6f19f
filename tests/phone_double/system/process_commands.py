"""Commands on processes: they see and touch the phone's own only, never the host's."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence

from tests.phone_double.system.command_records import Answer, Command, Context, Reply

# What runs a program of the phone's, on the host; its own words follow.
_INTERPRETERS = ("phone_double/system/stand_in.py", "phone_double/benchmark/tool.py")


def as_on_phone(context: Context, argv: Sequence[str]) -> list[str]:
    """A process's words as the phone would list them."""
    words = list(argv)
    for number, word in enumerate(words):
        if word.endswith(_INTERPRETERS[0]):
            words = words[number + 1 :]
            break
        if word.endswith(_INTERPRETERS[1]):
            words = words[number + 2 :]
            break
    return [context.tree.device_path(word) for word in words]


def _find(context: Context, name: str, args: Sequence[str]) -> Reply:
    """pgrep and pidof, pkill and killall."""
    full = name in ("pgrep", "pkill") and any(
        word.startswith("-") and "f" in word for word in args
    )
    wanted = [word for word in args if not word.startswith("-")]
    if not wanted:
        return Answer(code=1, err=f"{name}: needs a name\n")
    found = []
    for process in context.processes.list():
        argv = as_on_phone(context, process.argv) or [""]
        own = os.path.basename(argv[0])
        text = " ".join(argv) if full else own
        parts = name in ("pgrep", "pkill")
        fits = wanted[0] in text if parts else wanted[0] == own
        if fits and own != name:
            found.append(process.pid)
    if name in ("pkill", "killall"):
        number = _signal(
            [word[1:] for word in args if word[:1] == "-" and word != "-f"]
        )
        for pid in found:
            context.processes.kill(pid, number)
        return Answer(code=int(not found))
    separator = " " if name == "pidof" else "\n"
    told = separator.join(map(str, found)) + "\n" if found else ""
    return Answer(told, code=int(not found))


def _kill(context: Context, _: str, args: Sequence[str]) -> Reply:
    words = list(args)
    told = [signal.SIGTERM.name]
    if words[:1] == ["-s"] and len(words) > 1:
        told, words = [words[1]], words[2:]
    elif words and words[0].startswith("-") and words[0] != "--":
        told, words = [words[0][1:]], words[1:]
    own = {process.pid for process in context.processes.list()}
    errors = []
    for word in words:
        if word == "--":
            continue
        pid = int(word) if word.removeprefix("-").isdecimal() else 0
        if abs(pid) not in own:
            errors.append(f"kill: {word}: No such process\n")
        elif told != ["0"]:
            context.processes.kill(pid, _signal(told))
    return Answer(code=int(bool(errors) or not words), err="".join(errors))


def _signal(texts: Sequence[str]) -> int:
    for text in texts:
        name = "SIG" + text.upper().removeprefix("SIG")
        if text.isdecimal():
            return int(text)
        if name in signal.Signals.__members__:
            return int(signal.Signals[name])
    return signal.SIGTERM


def _ps(context: Context, _: str, args: Sequence[str]) -> Reply:
    lines = [
        "USER           PID  PPID     VSZ    RSS WCHAN            ADDR S NAME",
        "root             1     0   10632   2212 0                   0 S init",
    ]
    for process in context.processes.list():
        argv = as_on_phone(context, process.argv) or ["sh"]
        lines.append(
            f"shell        {process.pid:5d}     1   12345   3456 0                   0"
            f" S {os.path.basename(argv[0])}"
        )
    return Answer("\n".join(lines) + "\n")


PROCESS_COMMANDS: Mapping[str, Command] = {
    **dict.fromkeys(("pgrep", "pidof", "pkill", "killall"), _find),
    "kill": _kill,
    "ps": _ps,
}

"""The phone's own commands: what each prints, given the phone's state."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from phone_double import answers
from phone_double.files import FileTree
from phone_double.phones import Phone
from phone_double.processes import Processes
from phone_double.state import PhoneState, Uptime

# Programs of the host that behave like the phone's. What is missing here and in
# COMMANDS is missing on the phone.
HOST_PROGRAMS = (
    "basename cat cksum cmp cp cut dd dirname du env expr false find grep gzip head ln"
    " md5sum mkdir mktemp mv nice nohup od paste printenv printf readlink realpath rev"
    " rm rmdir sed seq setsid sha1sum sha256sum sleep sort split stat tac tail tar tee"
    " test timeout touch tr true tty uniq wc xargs yes"
).split()


@dataclass(frozen=True)
class Answer:
    """What a command prints, and its exit code."""

    out: str = ""
    code: int = 0
    err: str = ""


@dataclass(frozen=True)
class Become:
    """Go on as this program, with these variables more."""

    argv: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Script:
    """Go on as a shell that runs this text; ``words`` are $0, $1, ..."""

    text: str
    flags: Sequence[str]
    words: Sequence[str]


Reply = Answer | Become | Script


@dataclass
class Context:
    """All that commands answer from."""

    phone: Phone
    state: PhoneState
    uptime: Uptime
    tree: FileTree
    processes: Processes
    settings: dict[str, str]
    script: Callable[[Sequence[str]], Reply]


Command = Callable[[Context, str, Sequence[str]], Reply]


def _getprop(context: Context, _: str, args: Sequence[str]) -> Reply:
    if not args:
        return Answer(answers.getprop(context.phone))
    default = args[1] if len(args) > 1 else ""
    return Answer(context.phone.properties.get(args[0], default) + "\n")


def _dumpsys(context: Context, _: str, args: Sequence[str]) -> Reply:
    name = args[0] if args else ""
    if name == "battery":
        return Answer(answers.battery(context.state))
    if name == "power":
        return Answer(answers.power(context.state))
    if name == "thermalservice" and context.phone.sensors:
        return Answer(answers.thermal(context.phone, context.state))
    if name == "SurfaceFlinger":
        return Answer(f"Build configuration:\nGLES: {context.phone.gpu}\n")
    return Answer(err=f"Can't find service: {name}\n", code=0 if name else 10)


def _settings(context: Context, _: str, args: Sequence[str]) -> Reply:
    match args:
        case ["get", "global", "low_power"]:
            return Answer(f"{int(context.state.power_save)}\n")
        case ["get", _space, key]:
            return Answer(context.settings.get(key, "null") + "\n")
        case ["put", _space, key, value]:
            context.settings[key] = value
            if key == "low_power":
                context.state.power_save = value == "1"
            return Answer()
    return Answer(code=255, err="Invalid command\n")


def _date(context: Context, _: str, args: Sequence[str]) -> Reply:
    now = time.time() + context.state.clock_offset_s
    form = "%a %b %e %H:%M:%S %Z %Y"
    for arg in args:
        if arg.startswith("+"):
            form = arg[1:]
    form = form.replace("%s", str(int(now))).replace("%N", f"{int(now % 1 * 1e9):09d}")
    return Answer(time.strftime(form, time.gmtime(now)).replace("GMT", "UTC") + "\n")


def _uptime(context: Context, _: str, args: Sequence[str]) -> Reply:
    seconds = int(context.uptime.seconds)
    now = time.gmtime(time.time() + context.state.clock_offset_s)
    hours, minutes = seconds // 3600, seconds // 60 % 60
    load = f"{context.state.load:.2f}, {context.state.load:.2f}, 0.41"
    return Answer(
        f" {time.strftime('%H:%M:%S', now)} up {hours:2d}:{minutes:02d},  0 users, "
        f" load average: {load}\n"
    )


def _uname(context: Context, _: str, args: Sequence[str]) -> Reply:
    phone = context.phone
    if "-m" in args:
        return Answer(f"{phone.machine}\n")
    if "-r" in args:
        return Answer(f"{phone.kernel}\n")
    if "-a" in args:
        return Answer(
            f"Linux localhost {phone.kernel} #1 SMP PREEMPT {phone.machine} Toybox\n"
        )
    return Answer("Linux\n")


def _id(context: Context, name: str, args: Sequence[str]) -> Reply:
    if name == "whoami" or "-un" in args:
        return Answer("shell\n")
    if "-u" in args:
        return Answer("2000\n")
    return Answer("uid=2000(shell) gid=2000(shell) groups=2000(shell)\n")


def _nproc(context: Context, _: str, args: Sequence[str]) -> Reply:
    return Answer(f"{context.phone.cores}\n")


def _df(context: Context, _: str, args: Sequence[str]) -> Reply:
    total = 110_000_000
    free = context.tree.free_bytes
    free_kb = 80_000_000 if free is None else free // 1024
    return Answer(
        "Filesystem       1K-blocks      Used Available Use% Mounted on\n"
        f"/dev/block/dm-48 {total:9d} {total - free_kb:9d} {free_kb:9d}"
        f" {100 * (total - free_kb) // total:3d}% /data\n"
    )


def _taskset(context: Context, _: str, args: Sequence[str]) -> Reply:
    if len(args) < 2 or args[0].startswith("-"):
        return Answer(code=1, err="taskset: Needs 2 arguments\n")
    try:
        mask = int(args[0], 16)
    except ValueError:
        return Answer(code=1, err=f"taskset: bad mask '{args[0]}'\n")
    mask &= (1 << context.phone.cores) - 1
    if not mask:
        return Answer(code=1, err="taskset: sched_setaffinity: Invalid argument\n")
    return Become(args[1:], {"PHONE_DOUBLE_AFFINITY": f"{mask:x}"})


def _chmod(context: Context, _: str, args: Sequence[str]) -> Reply:
    host = shutil.which("chmod") or "/bin/chmod"
    # What lies on the card keeps its mode; changing it is no error.
    kept = [a for a in args if _may_change(context, a)]
    if len(kept) < 2 and len(args) > 1:
        return Answer()
    return Become([host, *kept])


def _may_change(context: Context, arg: str) -> bool:
    full = os.path.join(context.tree.root, arg)
    return not os.path.exists(full) or context.tree.may_run(
        context.tree.device_path(full)
    )


def _pgrep(context: Context, name: str, args: Sequence[str]) -> Reply:
    """pgrep, pidof, pkill and killall: of the phone's own processes only."""
    full = any(a.startswith("-") and "f" in a for a in args) and name in (
        "pgrep",
        "pkill",
    )
    words = [a for a in args if not a.startswith("-")]
    if not words:
        return Answer(code=1, err=f"{name}: needs a name\n")
    found = []
    for process in context.processes.list():
        argv = as_on_phone(context, process.argv)
        own = os.path.basename(argv[0]) if argv else ""
        text = " ".join(argv) if full else own
        fits = words[0] in text if name in ("pgrep", "pkill") else words[0] == own
        if fits and not (argv and os.path.basename(argv[0]) == name):
            found.append(process.pid)
    if name in ("pkill", "killall"):
        numbers = [a[1:] for a in args if a.startswith("-") and a != "-f"]
        for pid in found:
            context.processes.kill(pid, _signal_number(numbers))
        return Answer(code=0 if found else 1)
    separator = " " if name == "pidof" else "\n"
    told = separator.join(map(str, found)) + "\n" if found else ""
    return Answer(told, code=0 if found else 1)


def _signal_number(texts: Sequence[str]) -> int:
    for text in texts:
        if text.isdecimal():
            return int(text)
        name = "SIG" + text.upper().removeprefix("SIG")
        if name in signal.Signals.__members__:
            return int(signal.Signals[name])
    return signal.SIGTERM


def _ps(context: Context, _: str, args: Sequence[str]) -> Reply:
    lines = ["USER           PID  PPID     VSZ    RSS WCHAN            ADDR S NAME"]
    lines.append("root             1     0   10632   2212 0                   0 S init")
    for process in context.processes.list():
        argv = as_on_phone(context, process.argv)
        own = os.path.basename(argv[0]) if argv else "sh"
        lines.append(
            f"shell        {process.pid:5d}     1   12345   3456 0                   0"
            f" S {own}"
        )
    return Answer("\n".join(lines) + "\n")


def as_on_phone(context: Context, argv: Sequence[str]) -> list[str]:
    """A process's words as the phone would list them, without our interpreters."""
    words = list(argv)
    for number, word in enumerate(words):
        if word.endswith(
            ("phone_double/stand_in.py", "phone_double/benchmark_tool.py")
        ):
            words = words[number + 1 :]
            break
    return [context.tree.device_path(word) for word in words]


def _logcat(context: Context, _: str, args: Sequence[str]) -> Reply:
    return Answer("--------- beginning of main\n")


def _nothing(context: Context, _: str, args: Sequence[str]) -> Reply:
    return Answer()


def _getenforce(context: Context, _: str, args: Sequence[str]) -> Reply:
    return Answer("Enforcing\n")


def _sh(context: Context, _: str, args: Sequence[str]) -> Reply:
    return context.script(args)


COMMANDS: Mapping[str, Command] = {
    "am": _nothing,
    "chmod": _chmod,
    "date": _date,
    "df": _df,
    "dumpsys": _dumpsys,
    "getenforce": _getenforce,
    "getprop": _getprop,
    "id": _id,
    "input": _nothing,
    "killall": _pgrep,
    "logcat": _logcat,
    "nproc": _nproc,
    "pgrep": _pgrep,
    "pidof": _pgrep,
    "pkill": _pgrep,
    "ps": _ps,
    "settings": _settings,
    "sh": _sh,
    "svc": _nothing,
    "sync": _nothing,
    "taskset": _taskset,
    "uname": _uname,
    "uptime": _uptime,
    "whoami": _id,
}

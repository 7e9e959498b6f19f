"""The phone's own commands: what each prints, given the phone's state."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from tests.phone_double.phones import answers
from tests.phone_double.system.command_records import (
    Answer,
    Become,
    Command,
    Context,
    Reply,
)
from tests.phone_double.system.file_commands import FILE_COMMANDS
from tests.phone_double.system.process_commands import PROCESS_COMMANDS


def _getprop(context: Context, _: str, args: Sequence[str]) -> Reply:
    if not args:
        return Answer(answers.getprop(context.phone))
    default = args[1] if len(args) > 1 else ""
    return Answer(context.phone.properties.get(args[0], default) + "\n")


def _dumpsys(context: Context, _: str, args: Sequence[str]) -> Reply:
    phone, state = context.phone, context.state
    match args:
        case ["battery"]:
            return Answer(answers.battery(phone, state))
        case ["power"]:
            return Answer(answers.power(phone, state))
        case ["thermalservice"] if phone.thermal:
            return Answer(answers.thermal(phone, state))
        case ["SurfaceFlinger", *_]:
            return Answer(f"Build configuration:\nGLES: {phone.gpu}\n")
    return Answer(err=f"Can't find service: {' '.join(args)}\n")


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
    return Become(args[1:], environment={"PHONE_DOUBLE_AFFINITY": f"{mask:x}"})


def _logcat(context: Context, _: str, args: Sequence[str]) -> Reply:
    return Answer("--------- beginning of main\n")


def _nothing(context: Context, _: str, args: Sequence[str]) -> Reply:
    return Answer()


def _getenforce(context: Context, _: str, args: Sequence[str]) -> Reply:
    return Answer("Enforcing\n")


def _sh(context: Context, _: str, args: Sequence[str]) -> Reply:
    return context.script(context.folder, args)


def _reboot(context: Context, _: str, args: Sequence[str]) -> Reply:
    context.reboot()
    return Answer()


COMMANDS: Mapping[str, Command] = {
    **FILE_COMMANDS,
    **PROCESS_COMMANDS,
    **dict.fromkeys(
        ("am", "cmd", "input", "log", "pm", "setprop", "svc", "wm"), _nothing
    ),
    "date": _date,
    "dumpsys": _dumpsys,
    "getenforce": _getenforce,
    "getprop": _getprop,
    "id": _id,
    "logcat": _logcat,
    "nproc": _nproc,
    "reboot": _reboot,
    "settings": _settings,
    "sh": _sh,
    "sync": _nothing,
    "taskset": _taskset,
    "uname": _uname,
    "uptime": _uptime,
    "whoami": _id,
}

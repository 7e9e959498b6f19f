"""Commands on files, where the host's differ from the phone's."""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Mapping, Sequence

from tests.phone_double.system.command_records import (
    Answer,
    Become,
    Command,
    Context,
    Reply,
)

# Programs of the host that behave like the phone's. What neither these nor the commands
# of our own are is missing on the phone.
HOST_PROGRAMS = (
    "[ basename cat cksum cmp cut dirname du echo env expr false grep head md5sum"
    " mktemp nice nohup od paste printenv printf pwd readlink realpath rev sed seq"
    " setsid sha1sum sha256sum sleep sort stat tac tail test timeout tr true tty uniq"
    " wc xargs yes"
).split()
# Likewise, but only on what lies in the phone's tree: they change files.
GUARDED_PROGRAMS = "cp dd find ln mkdir mv rm rmdir tee touch".split()

_TOTAL_KB = 110_000_000
_FREE_KB = 80_000_000


def _df(context: Context, _: str, args: Sequence[str]) -> Reply:
    free = context.tree.free_bytes
    free_kb = _FREE_KB if free is None else free // 1024
    used_kb = _TOTAL_KB - free_kb
    return Answer(
        "Filesystem       1K-blocks      Used Available Use% Mounted on\n"
        f"/dev/block/dm-48 {_TOTAL_KB:9d} {used_kb:9d} {free_kb:9d}"
        f" {100 * used_kb // _TOTAL_KB:3d}% /data\n"
    )


def _chmod(context: Context, _: str, args: Sequence[str]) -> Reply:
    # What lies on the card keeps its mode; changing it is no error.
    kept = [word for word in args if not _on_card(context, word)]
    if len(kept) < len(args) and len(kept) < 2:
        return Answer()
    return Become(["chmod", *kept], shutil.which("chmod") or "/bin/chmod")


def _on_card(context: Context, word: str) -> bool:
    path = os.path.join(context.folder, word)
    return os.path.exists(path) and not context.tree.may_run(
        context.tree.device_path(path)
    )


def _ls(context: Context, _: str, args: Sequence[str]) -> Reply:
    flags = "".join(word[1:] for word in args if word.startswith("-"))
    paths = [word for word in args if not word.startswith("-")] or ["."]
    out, err = [], []
    for word in paths:
        path, told = os.path.join(context.folder, word), context.tree.device_path(word)
        if path == "/":
            path = str(context.tree.root)
        try:
            if os.path.isdir(path) and "d" not in flags:
                names = sorted(os.listdir(path))
                hidden = [".", "..", *names] if "a" in flags else names
                shown = hidden if "a" in flags or "A" in flags else _visible(names)
                head = [f"{told}:"] if len(paths) > 1 else []
                total = ["total 8"] if "l" in flags else []
                lines = [_line(path, name, flags) for name in shown]
                out.append("\n".join([*head, *total, *lines]))
            else:
                out.append(_line(os.path.dirname(path), told, flags, path))
        except OSError as error:
            err.append(f"ls: {told}: {error.strerror}\n")
    text = "\n".join(part for part in out if part)
    return Answer(text + "\n" if text else "", code=int(bool(err)), err="".join(err))


def _visible(names: Sequence[str]) -> list[str]:
    return [name for name in names if not name.startswith(".")]


def _line(folder: str, name: str, flags: str, path: str | None = None) -> str:
    info = os.lstat(path or os.path.join(folder, name))
    if "l" not in flags:
        return name
    when = time.strftime("%Y-%m-%d %H:%M", time.gmtime(info.st_mtime))
    mode = stat.filemode(info.st_mode)
    return f"{mode} {info.st_nlink} shell shell {info.st_size:7d} {when} {name}"


def _guarded(context: Context, name: str, args: Sequence[str]) -> Reply:
    for word in args:
        path = word.partition("=")[2] if name == "dd" else word
        if path.startswith("-"):
            if name == "find":
                break
            continue
        whole = os.path.realpath(os.path.join(context.folder, path))
        if not (whole + "/").startswith((f"{context.tree.root}/", "/dev/null/")):
            return Answer(code=1, err=f"{name}: {word}: Permission denied\n")
    return Become([name, *args], shutil.which(name) or name)


FILE_COMMANDS: Mapping[str, Command] = {
    **dict.fromkeys(GUARDED_PROGRAMS, _guarded),
    "chmod": _chmod,
    "df": _df,
    "ls": _ls,
}

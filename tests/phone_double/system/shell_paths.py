"""Shell text with device paths, for a shell that knows only the host's.

The shell is the host's own. In every text it is given, absolute paths of the phone are
turned into paths of the phone's tree, and in all it prints they are turned back.

Run as a program (``shell_paths.py ROOT``) it maps what it reads, line by line.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterable

# The phone's, and those of the host's that must not be reached instead; of /dev, the
# host's own serves.
TOP_FOLDERS = (
    "acct apex bin boot cache config data etc home init lib lib64 linkerconfig"
    " media metadata mnt odm oem opt postinstall proc product root run sbin"
    " sdcard srv storage sys system system_ext tmp usr var vendor"
).split()


class PathMap:
    """Between the phone's paths and those of the host's folder ``root``."""

    def __init__(self, root: str, folders: Iterable[str] = TOP_FOLDERS) -> None:
        if not re.fullmatch(r"[\w./+-]+", root):
            raise ValueError(f"{root!r} would need quotes in a shell; use another")
        self.root = root
        # A path begins a word, or follows what a word can have before it; one that
        # goes on after a name, a variable or a closing quote is another's tail.
        self._path = re.compile(
            rf"(?<![\w.~/}})\]*?])(?<![\w}})\]][\"'])/(?!{re.escape(root[1:])})(?=(?:"
            + "|".join(folders)
            + r")(?![\w.-]))"
        )

        # What is written to is the phone's, whatever its name.
        self._redirected = re.compile(
            rf"([<>]\s*[\"']?)/(?!{re.escape(root[1:])})(?!dev/)(?=\w)"
        )

    def to_host(self, text: str) -> str:
        """Shell text in which the phone's absolute paths are the host's."""
        text = self._redirected.sub(rf"\1{self.root}/", text)
        return self._path.sub(self.root + "/", text)

    def unmapper(self) -> Unmapper:
        return Unmapper(self.root.encode())


class Unmapper:
    """Turns the host's paths in a stream of output back into the phone's."""

    def __init__(self, root: bytes) -> None:
        self._root = root
        # The bare root is the phone's "/": certain once something else follows it.
        self._mapped = re.compile(re.escape(root) + rb"(?:/|(?=[^/]))")
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """What can be passed on; the start of what may become a path is kept back."""
        *done, rest = self._mapped.split(self._held + data)
        keep = _overlap(rest, self._root + b"/")
        self._held = rest[len(rest) - keep :]
        return b"/".join([*done, rest[: len(rest) - keep]])

    def flush(self) -> bytes:
        held, self._held = self._held, b""
        return b"/" if held == self._root else held


# The shell does these itself.
_BUILT_IN = frozenset("[ cd echo false kill printf pwd test true".split())


def is_simple(command: str, programs: frozenset[str]) -> bool:
    """Whether a command line does nothing but run one program.

    Args:
        programs: those that are called without a path.
    """
    lexer = shlex.shlex(command, posix=True, punctuation_chars="();<>|&\n")
    lexer.whitespace, lexer.commenters = " \t", ""
    try:
        words = list(lexer)
    except ValueError:
        return False
    if not words or any(set(word) <= set("();<>|&\n") for word in words if word):
        return False
    return "/" in words[0] or words[0] in programs - _BUILT_IN


def _overlap(data: bytes, pattern: bytes) -> int:
    """Length of the longest end of ``data`` that begins ``pattern``."""
    for length in range(min(len(data), len(pattern) - 1), 0, -1):
        if pattern.startswith(data[len(data) - length :]):
            return length
    return 0


def _filter_stdin(root: str) -> None:
    paths = PathMap(root)
    with (
        open(0, errors="surrogateescape", closefd=False) as source,
        open(1, "w", errors="surrogateescape", closefd=False) as target,
    ):
        for line in source:
            target.write(paths.to_host(line))
            target.flush()


if __name__ == "__main__":
    _filter_stdin(sys.argv[1])

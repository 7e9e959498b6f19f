"""Shell text with device paths, for a shell that knows only the host's.

The shell is the host's own. In every text it is given, absolute paths of the phone are
turned into paths of the phone's tree, and in all it prints they are turned back.
"""

from __future__ import annotations

import re
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

    def to_host(self, text: str) -> str:
        """Shell text in which the phone's absolute paths are the host's."""
        return self._path.sub(self.root + "/", text)

    def unmapper(self) -> Unmapper:
        return Unmapper(self.root.encode())


class Unmapper:
    """Turns the host's paths in a stream of output back into the phone's."""

    def __init__(self, root: bytes) -> None:
        self._root = root
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """What can be passed on; the start of what may become a path is kept back."""
        data = (self._held + data).replace(self._root + b"/", b"/")
        # The bare root is the phone's "/": certain once something else follows it.
        data = re.sub(re.escape(self._root) + rb"(?=[^/])", b"/", data)
        keep = _overlap(data, self._root + b"/")
        self._held = data[len(data) - keep :]
        return data[: len(data) - keep]

    def flush(self) -> bytes:
        held, self._held = self._held, b""
        return b"/" if held == self._root else held


def _overlap(data: bytes, pattern: bytes) -> int:
    """Length of the longest end of ``data`` that begins ``pattern``."""
    for length in range(min(len(data), len(pattern) - 1), 0, -1):
        if pattern.startswith(data[len(data) - length :]):
            return length
    return 0

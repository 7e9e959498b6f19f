"""The host shell's complaints in the words of Android's shell."""

from __future__ import annotations

import re

_INACCESSIBLE_SDK = 29

# "sh: 1: " before what a command line says, "run.sh: 3: " before what a script does.
_COMPLAINT = re.compile(
    rb"(?m)^(-?sh|[\w./~+-]*[./][\w./~+-]*): (\d+): "
    rb"((?:.*?: )??)(not found|Permission denied"
    rb"|(?:Syntax error:|cannot|can't) [^\r\n]*)(\r?)$"
)
_REWORDED = (
    (
        re.compile(rb"^cannot (open|create) (.*): No such file$"),
        rb"can't \1 \2: No such file or directory",
    ),
    (re.compile(rb"^cannot (open|create) (.*)$"), rb"can't \1 \2"),
    (re.compile(rb"^can't cd to (.*)$"), rb"\1: No such file or directory"),
    (re.compile(rb"^Permission denied$"), rb"can't execute: Permission denied"),
    (re.compile(rb"^Syntax error: (.*)$"), rb"syntax error: \1"),
)


# The host's shell writes a complaint in pieces: what may become one waits for its end.
_BEGUN = re.compile(rb"(?:^|\n)((?:-?sh|[\w./~+-]*[./][\w./~+-]*): [^\n]*)\Z")


class Rewording:
    """Rewords the shell's own complaints in a stream of output."""

    def __init__(self, sdk: int) -> None:
        self._sdk = sdk
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """What can be passed on."""
        data, self._held = self._held + data, b""
        if match := _BEGUN.search(data):
            data, self._held = data[: match.start(1)], match[1]
        return _COMPLAINT.sub(self._reword, data)

    def flush(self) -> bytes:
        held, self._held = self._held, b""
        return _COMPLAINT.sub(self._reword, held)

    def _reword(self, match: re.Match[bytes]) -> bytes:
        name, line, before, what, end = match.groups()
        before = before.removeprefix(b"exec: ")
        where = b"/system/bin/sh"
        if name not in (b"sh", b"-sh"):
            where = name + b"[" + line + b"]"
        if what == b"not found" and self._sdk >= _INACCESSIBLE_SDK:
            what = b"inaccessible or not found"
        for pattern, words in _REWORDED:
            if pattern.match(what):
                what = pattern.sub(words, what)
                break
        return where + b": " + before + what + end

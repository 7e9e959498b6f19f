"""A private folder on a phone: verified pushes, and complete removal."""

from __future__ import annotations

import hashlib
import logging
import re
import secrets
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from android_bench.adb.transport import FileRefused, Transport
from android_bench.errors import BenchError
from mess_tf.core.files import sha256_of

_LOG = logging.getLogger(__name__)

# The only place where a program may be put and run without root; world-readable, so
# the folder itself is for the shell user only.
BASE = "/data/local/tmp"
OLD_S = 86_400
_FOLDER_NAME = re.compile(r"mess-[0-9a-f]{16}")
_DIGEST_S = 120.0
# At a line's end: what phones' shells warn of may stand before.
_SUM_LINE = re.compile(r"(?<![0-9a-f])([0-9a-f]{32}|[0-9a-f]{64})[ *]+(\S+)\s*$")
_NOT_FOUND = 127
_AT_ONCE = 50


class NoSpace(BenchError):
    """The phone is full."""


class PhoneFolder:
    """One folder of random name; ``remove`` takes it away with everything in it.

    Args:
        transport: may be replaced by ``rebind`` when the connection was lost.

    Raises:
        BenchError: the folder cannot be made.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.path = f"{BASE}/mess-{secrets.token_hex(8)}"
        made = self._make("mkdir", self.path, f"{self.path}/models")
        if made:
            raise BenchError(
                f"No folder can be made in {BASE} of {transport.label}: {made}. Free"
                " some space there, or remove what blocks it."
            )
        # Digest by name of what was brought and verified.
        self._there: dict[str, str] = {}
        self._interrupted = False

    def rebind(self, transport: Transport) -> None:
        """Goes on with a new connection to the same phone.

        What was brought is believed again only when its digest was looked at: a phone
        that restarted in the middle may have lost the end of a file.
        """
        self._transport = transport
        self._there.clear()
        self._interrupted = True
        self._make("mkdir", "-p", self.path, f"{self.path}/models")

    def at(self, name: str) -> str:
        """The full path of a file in it."""
        return f"{self.path}/{name}"

    def has_verified(self, name: str, sha256: str) -> bool:
        """Whether that file was brought and verified, over this connection."""
        return self._there.get(name) == sha256

    def push_verified(
        self, files: Mapping[str, tuple[Path, str]], mode: int = 0o644
    ) -> dict[str, str]:
        """Pushes what is not there yet and compares digests on the phone.

        A file that arrives damaged is pushed once more.

        Args:
            files: by name in the folder, the file here and its sha256.

        Returns:
            By name, why a file could not be brought; empty when all are there.

        Raises:
            ConnectionLost: the phone is gone.
            NoSpace: the phone is full.
        """
        if self._interrupted:
            self._verify(files)
            self._interrupted = False
        reasons: dict[str, str] = {}
        for _ in range(2):
            todo = {
                name: file
                for name, file in files.items()
                if not self.has_verified(name, file[1]) and name not in reasons
            }
            for name, (path, _sha256) in todo.items():
                if reason := self._push(path, name, mode):
                    reasons[name] = reason
            self._verify({n: f for n, f in todo.items() if n not in reasons})
        damaged = "it arrived damaged twice: its digest on the phone is another"
        lost = [
            name for name, file in files.items() if not self.has_verified(name, file[1])
        ]
        return {name: reasons.get(name, damaged) for name in lost}

    def drop(self, names: Iterable[str]) -> None:
        """Removes files to make room."""
        gone = [name for name in names if name in self._there]
        for start in range(0, len(gone), _AT_ONCE):
            part = gone[start : start + _AT_ONCE]
            self._transport.shell(["rm", "-f", *map(self.at, part)])
        for name in gone:
            del self._there[name]

    @property
    def names(self) -> tuple[str, ...]:
        """Files that were brought and verified."""
        return tuple(self._there)

    def remove(self, transport: Transport) -> None:
        """Takes the folder away, over any connection to the phone."""
        transport.shell(["rm", "-rf", self.path])

    def _make(self, *command: str) -> str:
        """Makes the folders, for the phone's shell user only; what went wrong."""
        made = self._transport.shell(command)
        if made.exit_code != 0:
            return _last_line(made.text)
        self._transport.shell(["chmod", "700", *command[-2:]])
        return ""

    def _push(self, path: Path, name: str, mode: int) -> str:
        """Why the phone does not take it, "" when it did."""
        try:
            self._transport.push(path, self.at(name), mode)
        except FileRefused as error:
            self._transport.shell(["rm", "-f", self.at(name)])
            refused = refused_for(error)
            if isinstance(refused, NoSpace):
                raise refused from error
            return error.reason
        return ""

    def _verify(self, files: Mapping[str, tuple[Path, str]]) -> None:
        """Remembers those whose content on the phone is right."""
        names = list(files)
        for start in range(0, len(names), _AT_ONCE):
            part = names[start : start + _AT_ONCE]
            sums = self._sums(part)
            for name in part:
                path, sha256 = files[name]
                if sums is None:
                    right = self._reads_back(name, sha256)
                else:
                    found = sums.get(name, "")
                    right = found == (_md5(path) if len(found) == 32 else sha256)
                if right:
                    self._there[name] = sha256

    def _sums(self, names: Sequence[str]) -> dict[str, str] | None:
        """Digest by name; None where the phone has no program that computes one."""
        for program in ("sha256sum", "md5sum"):
            result = self._transport.shell(
                [program, *map(self.at, names)], timeout_s=_DIGEST_S
            )
            if result.exit_code == _NOT_FOUND:
                continue
            lines = result.text.splitlines()
            matches = [m for m in map(_SUM_LINE.search, lines) if m]
            return {m[2].removeprefix(f"{self.path}/"): m[1] for m in matches}
        return None

    def _reads_back(self, name: str, sha256: str) -> bool:
        with tempfile.TemporaryDirectory(prefix="android_bench-") as folder:
            copy = Path(folder) / "copy"
            try:
                self._transport.pull(self.at(name), copy)
            except FileRefused:
                return False
            return sha256_of(copy) == sha256


def refused_for(error: FileRefused) -> BenchError:
    """``NoSpace`` where that is the phone's reason, else the error itself."""
    return NoSpace(str(error)) if "no space" in error.reason.lower() else error


def remove_left_overs(transport: Transport) -> list[str]:
    """Removes folders of runs that ended without it and are older than a day.

    Only folders of our kind of name; a link of such a name is left alone.

    Returns:
        What was removed.
    """
    listed = transport.shell(["ls", BASE]).text.split()
    ours = [f"{BASE}/{name}" for name in listed if _FOLDER_NAME.fullmatch(name)]
    if not ours:
        return []
    now = re.search(r"(\d{9,})$", transport.shell(["date", "+%s"]).text, re.M)
    if now is None:
        return []
    old = []
    for path in ours:
        found = transport.stat(path)
        if found and found.is_folder and int(now[1]) - found.mtime > OLD_S:
            old.append(path)
    if old:
        _LOG.info("removing left-overs from %s: %s", transport.label, " ".join(old))
        transport.shell(["rm", "-rf", *old])
    return old


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it gives no reason"])[-1].rstrip(".")

"""The ``sync:`` service: files pushed, pulled, asked about and listed, v1 and v2."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import struct
from collections.abc import Callable
from pathlib import Path

from tests.phone_double.adbd.streams import Stream
from tests.phone_double.faults import Faults, PushWatch
from tests.phone_double.system.files import FileTree

MAX_CHUNK = 64 * 1024
_MAX_PATH = 1024
# Together with its header, a block is as large as adbd's.
_READ_SIZE = MAX_CHUNK - 8

_V1 = struct.Struct("<3I")
_V1_LISTED = struct.Struct("<4I")
_V2 = struct.Struct("<IQQIIIIQqqq")
_V2_LISTED = struct.Struct("<IQQIIIIQqqqI")


class _Ended(Exception):
    """The client is done or gone."""


class _Failed(Exception):
    """To be told to the client."""


class SyncService:
    """Serves one ``sync:`` stream."""

    def __init__(self, stream: Stream, tree: FileTree, faults: Faults) -> None:
        self._stream = stream
        self._tree = tree
        self._faults = faults
        self._buffer = bytearray()

    def run(self) -> None:
        answers: dict[bytes, Callable[[str], None]] = {
            b"STAT": self._stat_v1,
            b"STA2": lambda path: self._stat_v2(b"STA2", path, follow=True),
            b"LST2": lambda path: self._stat_v2(b"LST2", path, follow=False),
            b"LIST": self._list_v1,
            b"LIS2": self._list_v2,
            b"SEND": self._send_v1,
            b"SND2": self._send_v2,
            b"RECV": self._receive_v1,
            b"RCV2": self._receive_v2,
        }
        with contextlib.suppress(_Ended):
            while True:
                kind, length = self._header()
                if kind == b"QUIT":
                    return
                path = self._take(min(length, _MAX_PATH))
                try:
                    if length > _MAX_PATH:
                        raise _Failed("path too long")
                    if kind not in answers:
                        number = int.from_bytes(kind, "little")
                        raise _Failed(f"unknown command {number:08x}")
                    answers[kind](path.decode(errors="surrogateescape"))
                except _Failed as failure:
                    # adbd ends the stream with its first failure.
                    self._fail(str(failure))
                    return

    # === Bytes ===

    def _take(self, count: int) -> bytes:
        while len(self._buffer) < count:
            data = self._stream.read()
            if data is None:
                raise _Ended
            self._buffer += data
        if self._stream.is_lost:
            raise _Ended
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def _header(self) -> tuple[bytes, int]:
        raw = self._take(8)
        return raw[:4], int.from_bytes(raw[4:], "little")

    def _fail(self, message: str) -> None:
        data = message.encode()
        self._stream.write(b"FAIL" + len(data).to_bytes(4, "little") + data)

    # === Asked about and listed ===

    def _stat_v1(self, path: str) -> None:
        try:
            info = os.lstat(self._tree.host_path(path))
        except OSError:
            self._stream.write(b"STAT" + _V1.pack(0, 0, 0))
            return
        self._stream.write(b"STAT" + _v1_fields(info))

    def _stat_v2(self, kind: bytes, path: str, follow: bool) -> None:
        ask = os.stat if follow else os.lstat
        try:
            info = ask(self._tree.host_path(path))
        except OSError as error:
            fields = _V2.pack(error.errno or errno.EIO, *[0] * 10)
        else:
            fields = _v2_fields(info)
        self._stream.write(kind + fields)

    def _list_v1(self, path: str) -> None:
        parts = []
        for name, info in self._listed(path):
            raw = os.fsencode(name)
            parts.append(b"DENT" + _v1_fields(info) + struct.pack("<I", len(raw)) + raw)
        self._stream.write(b"".join(parts) + b"DONE" + _V1_LISTED.pack(*[0] * 4))

    def _list_v2(self, path: str) -> None:
        parts = []
        for name, info in self._listed(path):
            raw = os.fsencode(name)
            parts.append(b"DNT2" + _v2_fields(info) + struct.pack("<I", len(raw)) + raw)
        self._stream.write(b"".join(parts) + b"DONE" + _V2_LISTED.pack(*[0] * 12))

    def _listed(self, path: str) -> list[tuple[str, os.stat_result]]:
        folder = self._tree.host_path(path)
        found = []
        # A folder that cannot be read is told as an empty one, as adbd does.
        with contextlib.suppress(OSError):
            for name in [".", "..", *sorted(os.listdir(folder))]:
                with contextlib.suppress(OSError):
                    found.append((name, os.lstat(folder / name)))
        return found

    # === Pulled ===

    def _receive_v1(self, path: str) -> None:
        try:
            with self._tree.host_path(path).open("rb") as file:
                while chunk := file.read(_READ_SIZE):
                    size = len(chunk).to_bytes(4, "little")
                    self._stream.write(b"DATA" + size + chunk)
        except IsADirectoryError as error:
            raise _Failed("read failed: Is a directory") from error
        except OSError as error:
            raise _Failed(f"open failed: {error.strerror}") from error
        self._stream.write(b"DONE" + bytes(4))

    def _receive_v2(self, path: str) -> None:
        kind, flags = self._header()
        if kind != b"RCV2" or flags:
            raise _Failed(f"unsupported compression flags {flags}")
        self._receive_v1(path)

    # === Pushed ===

    def _send_v1(self, path_and_mode: str) -> None:
        path, comma, mode = path_and_mode.rpartition(",")
        if not comma or not mode.isdecimal():
            raise _Failed("missing , in ID_SEND_V1")
        self._send(path, int(mode))

    def _send_v2(self, path: str) -> None:
        kind, mode = self._header()
        flags = int.from_bytes(self._take(4), "little")
        if kind != b"SND2" or flags:
            raise _Failed(f"unsupported compression flags {flags}")
        self._send(path, mode)

    def _send(self, path: str, mode: int) -> None:
        try:
            if stat.S_ISLNK(mode):
                mtime = self._make_link(path)
            else:
                mtime = self._fill_file(path, mode)
        except _Failed as failure:
            # Old clients read only after they have sent all.
            self._fail(str(failure))
            self._skip_data()
            raise _Ended from failure
        with contextlib.suppress(OSError):
            os.utime(self._tree.host_path(path), (mtime, mtime), follow_symlinks=False)
        self._stream.write(b"OKAY" + bytes(4))

    def _make_link(self, path: str) -> int:
        goal, mtime = bytearray(), None
        while mtime is None:
            block, mtime = self._block()
            goal += block
        target = os.fsdecode(bytes(goal).split(b"\0")[0])
        if target.startswith("/"):
            target = str(self._tree.host_path(target))
        try:
            self._make_room(path)
            os.symlink(target, self._tree.host_path(path))
        except OSError as error:
            raise _Failed(f"symlink failed: {error.strerror}") from error
        return mtime

    def _fill_file(self, path: str, mode: int) -> int:
        try:
            target = self._make_room(path)
            file = target.open("wb")
        except OSError as error:
            raise _Failed(f"couldn't create file: {error.strerror}") from error
        watch = PushWatch(self._faults)
        mtime = None
        with file:
            while mtime is None:
                block, mtime = self._block()
                watch.came(len(block))
                try:
                    self._tree.use(len(block))
                    file.write(watch.spoil(block))
                except OSError as error:
                    target.unlink()
                    raise _Failed(f"write failed: {error.strerror}") from error
        target.chmod(_widened(mode) if self._tree.may_run(path) else 0o660)
        return mtime

    def _make_room(self, path: str) -> Path:
        """Checks that a file may be made there, makes its folders, takes an old one."""
        self._tree.check_writable(path)
        target = self._tree.host_path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir() and not target.is_symlink():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        target.unlink(missing_ok=True)
        return target

    def _block(self) -> tuple[bytes, int | None]:
        """A block of the file; at its end, the time it was changed."""
        kind, number = self._header()
        if kind == b"DONE":
            return b"", number
        if kind != b"DATA":
            raise _Failed("invalid data message")
        if number > MAX_CHUNK:
            raise _Failed("oversize data message")
        return self._take(number), None

    def _skip_data(self) -> None:
        while True:
            kind, number = self._header()
            if kind != b"DATA":
                return
            self._take(number)


def _widened(mode: int) -> int:
    """What adbd makes of a mode: group and others get the owner's bits."""
    mode &= 0o777
    mode |= (mode >> 3) & 0o070
    return mode | (mode >> 3) & 0o007


def _v1_fields(info: os.stat_result) -> bytes:
    return _V1.pack(
        info.st_mode, info.st_size & 0xFFFFFFFF, int(info.st_mtime) & 0xFFFFFFFF
    )


def _v2_fields(info: os.stat_result) -> bytes:
    return _V2.pack(
        0,
        info.st_dev,
        info.st_ino,
        info.st_mode,
        info.st_nlink,
        info.st_uid,
        info.st_gid,
        info.st_size,
        int(info.st_atime),
        int(info.st_mtime),
        int(info.st_ctime),
    )

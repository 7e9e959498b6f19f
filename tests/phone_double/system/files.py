"""The phone's file tree: a temporary folder whose root the phone calls ``/``."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

WRITABLE = ("/data/local/tmp", "/storage/emulated/0")
NO_EXEC = ("/storage/emulated/0",)


class FileTree:
    """Device paths and the host's; what may be written, run, and how much fits.

    Attributes:
        root: the host's folder that is the phone's ``/``.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._limit: int | None = None
        for folder in WRITABLE:
            (root / folder[1:]).mkdir(parents=True)
        (root / "sdcard").symlink_to("storage/emulated/0")
        (root / "storage/emulated/0/Download").mkdir()
        (root / "data/local/tmp").chmod(0o777)

    def host_path(self, path: str) -> Path:
        """Where a device path lies; ``..`` never leads out of the tree."""
        clean = os.path.normpath("/" + path)
        return self.root / clean.lstrip("/")

    def device_path(self, path: Path | str) -> str:
        """What the phone calls a host's path."""
        text = str(path)
        root = str(self.root)
        if text == root:
            return "/"
        return text[len(root) :] if text.startswith(root + "/") else text

    def resolved(self, path: str) -> str:
        """The device path with links followed as far as it exists."""
        real = os.path.realpath(self.host_path(path))
        return self.device_path(real)

    def check_writable(self, path: str) -> None:
        """Raises OSError as the phone's kernel would when a file is made there."""
        real = self.resolved(path)
        if not any(_inside(real, folder) for folder in WRITABLE):
            code = errno.EACCES if _inside(real, "/data") else errno.EROFS
            raise OSError(code, os.strerror(code))
        folder = self.host_path(os.path.dirname(real))
        while not folder.is_dir():
            folder = folder.parent
        if not folder.stat().st_mode & stat.S_IWUSR:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    def set_writable(self, path: str, writable: bool) -> None:
        """Lets files be made in a folder and those below it, or not."""
        for folder, _, _ in os.walk(self.host_path(path)):
            os.chmod(folder, 0o777 if writable else 0o555)

    def may_run(self, path: str) -> bool:
        return not any(_inside(self.resolved(path), folder) for folder in NO_EXEC)

    def limit_free(self, free_bytes: int | None) -> None:
        """So much may still be pushed below /data and /sdcard; None: no limit.

        Only pushes are counted against it; what is removed is free again.
        """
        self._limit = None if free_bytes is None else self._used() + free_bytes

    @property
    def free_bytes(self) -> int | None:
        """None: no limit."""
        return None if self._limit is None else max(0, self._limit - self._used())

    def use(self, count: int) -> None:
        """Raises OSError when so many bytes more do not fit."""
        free = self.free_bytes
        if free is not None and count > free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _used(self) -> int:
        return sum(
            os.lstat(f"{folder}/{name}").st_size
            for top in WRITABLE
            for folder, _, names in os.walk(self.host_path(top))
            for name in names
        )

    def write(self, path: str, content: str | bytes, mode: int = 0o444) -> None:
        """Puts a file of the phone's own there, whole at once."""
        target = self.host_path(path)
        self._make_folder(target.parent)
        data = content.encode() if isinstance(content, str) else content
        fresh = target.parent / f".{target.name}.{threading.get_ident()}"
        with _unlocked(target.parent):
            fresh.write_bytes(data)
            fresh.chmod(mode)
            fresh.replace(target)

    def _make_folder(self, folder: Path) -> None:
        if not folder.is_dir():
            self._make_folder(folder.parent)
            with _unlocked(folder.parent):
                folder.mkdir()

    def remove_folder(self, path: str) -> None:
        """Takes a folder of the phone's own away, and the files in it."""
        target = self.host_path(path)
        with _unlocked(target.parent), _unlocked(target):
            shutil.rmtree(target)

    def seal(self) -> None:
        """Nothing can be made outside of the writable folders any more."""
        for folder, names, _ in os.walk(self.root):
            device = self.device_path(folder)
            names[:] = [n for n in names if os.path.join(device, n) not in WRITABLE]
            os.chmod(folder, 0o555)

    def remove(self) -> None:
        """Takes the whole tree away."""
        for folder, names, _ in os.walk(self.root):
            os.chmod(folder, 0o755)
            for name in names:
                if not os.path.islink(f"{folder}/{name}"):
                    os.chmod(f"{folder}/{name}", 0o755)
        shutil.rmtree(self.root)


@contextlib.contextmanager
def _unlocked(folder: Path) -> Iterator[None]:
    """Lets the owner change a sealed folder for a moment."""
    mode = stat.S_IMODE(folder.stat().st_mode)
    if not mode & stat.S_IWUSR:
        folder.chmod(mode | stat.S_IWUSR)
    try:
        yield
    finally:
        if folder.exists():
            folder.chmod(mode)


def _inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + "/")

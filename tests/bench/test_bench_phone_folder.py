"""What is brought to a phone's folder is there, or it is told why not."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from android_bench.adb.transport import FileRefused, RemoteFile, ShellResult
from android_bench.phones.folder import NoSpace, PhoneFolder, remove_left_overs

Make = Callable[..., Any]


class FakePhone:
    """Files in memory; digests by the programs that it has."""

    label = "phone X"

    def __init__(self, programs: Sequence[str] = ("sha256sum", "md5sum")) -> None:
        self.programs = programs
        self.files: dict[str, bytes] = {}
        self.pushed: list[str] = []
        self.commands: list[Sequence[str]] = []
        self.spoil: Callable[[str, bytes], bytes] = lambda name, content: content

    def shell(self, argv: Sequence[str], timeout_s: float = 0.0) -> ShellResult:
        self.commands.append(argv)
        name, *paths = argv
        if name.endswith("sum"):
            if name not in self.programs:
                return ShellResult(b"sh: not found\n", b"", 127)
            kind = name.removesuffix("sum")
            lines = [
                f"{hashlib.new(kind, self.files[p]).hexdigest()}  {p}\n"
                if p in self.files
                else f"{name}: {p}: No such file or directory\n"
                for p in paths
            ]
            return ShellResult("".join(lines).encode(), b"", 0)
        if name == "rm":
            for path in paths:
                self.files.pop(path, None)
        return ShellResult(b"", b"", 0)

    def push(self, source: Path, target: str, mode: int = 0o644) -> None:
        self.pushed.append(target.rpartition("/")[2])
        self.files[target] = self.spoil(target, source.read_bytes())

    def pull(self, source: str, target: Path) -> None:
        if source not in self.files:
            raise FileRefused("no", "No such file or directory")
        target.write_bytes(self.files[source])

    def lines(self, argv: Sequence[str], silence_s: float) -> Any:
        raise NotImplementedError

    def stat(self, path: str) -> RemoteFile | None:
        return None

    def close(self) -> None: ...


@pytest.fixture
def files(tmp_path: Path) -> dict[str, tuple[Path, str]]:
    """Three files by their names on the phone."""
    found = {}
    for name in "abc":
        path = tmp_path / name
        path.write_text(name * 100)
        found[name] = path, hashlib.sha256(path.read_bytes()).hexdigest()
    return found


@pytest.mark.parametrize("programs", [("sha256sum", "md5sum"), ("md5sum",), ()])
def test_files_are_brought_once_and_verified_with_what_is_there(
    files: dict[str, Any], programs: tuple[str, ...]
) -> None:
    phone = FakePhone(programs)
    folder = PhoneFolder(phone)
    assert folder.push_verified(files) == {}
    assert folder.push_verified(files) == {}
    assert phone.pushed == ["a", "b", "c"]
    assert all(folder.has_verified(name, files[name][1]) for name in files)
    assert not folder.has_verified("a", "another digest")


@pytest.mark.parametrize("programs", [("sha256sum",), ("md5sum",), ()])
def test_a_damaged_file_is_pushed_once_more_then_told(
    files: dict[str, Any], programs: tuple[str, ...]
) -> None:
    phone = FakePhone(programs)
    seen: list[str] = []

    def spoil(target: str, content: bytes) -> bytes:
        name = target[-1]
        seen.append(name)
        damaged = name == "b" or (name == "a" and seen.count("a") == 1)
        return content[:-1] + b"?" if damaged else content

    phone.spoil = spoil
    folder = PhoneFolder(phone)
    refused = folder.push_verified(files)
    assert list(refused) == ["b"] and "damaged twice" in refused["b"]
    assert phone.pushed == ["a", "b", "c", "a", "b"]
    assert folder.has_verified("a", files["a"][1])


def test_a_refused_file_is_told_and_the_others_are_there(files: dict[str, Any]) -> None:
    phone = FakePhone()

    def spoil(target: str, content: bytes) -> bytes:
        if target.endswith("b"):
            raise FileRefused("no", "Permission denied")
        return content

    phone.spoil = spoil
    assert PhoneFolder(phone).push_verified(files) == {"b": "Permission denied"}


def test_a_full_phone_keeps_no_half_file(files: dict[str, Any]) -> None:
    phone = FakePhone()

    def spoil(target: str, content: bytes) -> bytes:
        phone.files[target] = content[:10]
        raise FileRefused("full", "write failed: No space left on device")

    phone.spoil = spoil
    with pytest.raises(NoSpace):
        PhoneFolder(phone).push_verified(files)
    assert phone.files == {}


def test_after_a_lost_connection_only_what_is_not_whole_is_pushed(
    files: dict[str, Any],
) -> None:
    phone = FakePhone()
    folder = PhoneFolder(phone)
    folder.push_verified(files)
    phone.files[folder.at("b")] = b"half"
    folder.rebind(phone)
    assert not folder.has_verified("a", files["a"][1])
    assert folder.push_verified(files) == {}
    assert phone.pushed == ["a", "b", "c", "b"]


def test_what_is_dropped_can_come_again(files: dict[str, Any]) -> None:
    phone = FakePhone()
    folder = PhoneFolder(phone)
    folder.push_verified(files)
    folder.drop(["a", "never there"])
    assert folder.names == ("b", "c")
    assert set(phone.files) == {folder.at("b"), folder.at("c")}
    assert folder.push_verified(files) == {}


def test_only_folders_of_ours_that_are_old_are_removed() -> None:
    class Phone(FakePhone):
        def shell(self, argv: Sequence[str], timeout_s: float = 0.0) -> ShellResult:
            self.commands.append(argv)
            said = {"ls": b"mess-0123456789abcdef\nmess-00000000000000aa\nmess-..\nx\n"}
            said["date"] = b"1700000000\n"
            return ShellResult(said.get(argv[0], b""), b"", 0)

        def stat(self, path: str) -> RemoteFile | None:
            mode = 0o120777 if path.endswith("aa") else 0o40700
            return RemoteFile(mode, 0, 1_700_000_000 - 100_000)

    phone = Phone()
    removed = remove_left_overs(phone)
    assert removed == ["/data/local/tmp/mess-0123456789abcdef"]
    assert phone.commands[-1] == ["rm", "-rf", *removed]

"""Files are written whole or not at all, with one line for the user."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from mess_tf.core.errors import MessError
from mess_tf.core.files import (
    sha256_of,
    write_atomically,
    write_file,
)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.bin"
    write_file(path, b"old")
    with pytest.raises(ZeroDivisionError), write_atomically(path) as temporary:
        temporary.write_bytes(b"half")
        raise ZeroDivisionError
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_files_are_readable_by_others_as_the_umask_allows(tmp_path: Path) -> None:
    umask = os.umask(0o027)
    try:
        write_file(tmp_path / "a", b"")
    finally:
        os.umask(umask)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_folders_are_made_and_errors_are_one_line(tmp_path: Path) -> None:
    write_file(tmp_path / "made" / "a", b"1")  # this one makes the folder
    with pytest.raises(MessError, match=r"Cannot write .*: File exists\.") as caught:
        write_file(tmp_path / "made" / "a" / "b", b"")
    assert "\n" not in str(caught.value)


def test_the_digest_is_that_of_the_content(tmp_path: Path) -> None:
    content = os.urandom(3 << 20)
    write_file(tmp_path / "a", content)
    assert sha256_of(tmp_path / "a") == hashlib.sha256(content).hexdigest()

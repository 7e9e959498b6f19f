"""Finding the benchmark tool: given, kept, downloaded; nothing reaches a network."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from android_bench.errors import BenchError
from android_bench.phones.tool_file import find_tool, read_tool

ARM64, ARM = "arm64-v8a", "armeabi-v7a"


def program(machine: int, text: bytes = b"") -> bytes:
    return b"\x7fELF" + bytes(14) + machine.to_bytes(2, "little") + text


class Web:
    """Answers addresses that contain a key; counts."""

    def __init__(self, **answers: bytes | Exception) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def __call__(self, url: str, most_bytes: int, limit_s: float) -> bytes:
        self.asked.append(url)
        for key, answer in self.answers.items():
            if key in url:
                if isinstance(answer, Exception):
                    raise answer
                return answer
        raise OSError("no network in tests")


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    return {"XDG_CACHE_HOME": str(tmp_path / "cache")}


def test_what_was_downloaded_is_kept_with_its_digest(home: dict[str, str]) -> None:
    web = Web(litert=program(183, b"one"))
    path = find_tool(ARM64, environ=home, fetch=web)
    assert path.read_bytes() == program(183, b"one")
    note = json.loads(path.with_name("benchmark_model.json").read_text())
    assert note["sha256"] == read_tool(path).sha256
    assert note["origin"] == web.asked[0] and note["size"] == len(program(183, b"one"))
    assert find_tool(ARM64, environ=home, fetch=Web()) == path


def test_the_runtimes_own_release_comes_first(home: dict[str, str]) -> None:
    web = Web(nightly=program(183))
    path = find_tool(ARM64, environ=home, fetch=web)
    assert "storage.googleapis.com/litert/binaries/2." in web.asked[0]
    assert web.asked[0].endswith("android_arm64/benchmark_model")
    assert web.asked[1].endswith("latest/android_aarch64_benchmark_model")
    assert path.parent.name == "tflite-nightly"


def test_a_tool_that_takes_inputs_is_tflites_own(home: dict[str, str]) -> None:
    web = Web(litert=program(183, b"timer"), nightly=program(183, b"runner"))
    timer = find_tool(ARM64, environ=home, fetch=web)
    runner = find_tool(ARM64, inputs=True, environ=home, fetch=web)
    assert (timer.read_bytes(), runner.read_bytes()) == (
        program(183, b"timer"),
        program(183, b"runner"),
    )


def test_every_kind_of_phone_has_its_own_tool(home: dict[str, str]) -> None:
    web = Web(android_arm_=program(40))
    assert find_tool(ARM, environ=home, fetch=web).read_bytes() == program(40)
    with pytest.raises(BenchError, match="No benchmark tool is published for mips"):
        find_tool("mips", environ=home, fetch=web)


@pytest.mark.parametrize("page", [b"<html>404</html>", b"", program(62)])
def test_something_else_than_the_program_is_not_kept(
    home: dict[str, str], page: bytes
) -> None:
    with pytest.raises(BenchError, match="it is no program for arm64-v8a"):
        find_tool(ARM64, environ=home, fetch=Web(googleapis=page))
    assert not list(Path(home["XDG_CACHE_HOME"]).rglob("benchmark_model"))


def test_without_a_network_the_user_learns_what_to_put_where(
    home: dict[str, str], tmp_path: Path
) -> None:
    with pytest.raises(BenchError) as error:
        find_tool(ARM64, environ=home, fetch=Web())
    said = str(error.value)
    assert "no network in tests" in said and "\n" not in said
    assert "android_aarch64_benchmark_model and put it at" in said
    place = Path(said.partition("put it at ")[2].partition(",")[0])
    # Doing as it says is enough.
    place.parent.mkdir(parents=True)
    place.write_bytes(program(183))
    assert find_tool(ARM64, environ=home, fetch=Web()) == place
    assert place.with_name("benchmark_model.json").is_file()


def test_a_damaged_copy_in_the_cache_is_fetched_again(home: dict[str, str]) -> None:
    web = Web(litert=program(183, b"whole"))
    path = find_tool(ARM64, environ=home, fetch=web)
    path.write_bytes(program(183, b"who"))
    again = find_tool(ARM64, environ=home, fetch=web)
    assert again.read_bytes() == program(183, b"whole")


def test_nothing_half_is_left_of_a_download(home: dict[str, str]) -> None:
    with pytest.raises(BenchError, match="gone in the middle"):
        find_tool(
            ARM64, environ=home, fetch=Web(g=ConnectionError("gone in the middle"))
        )
    assert [p for p in Path(home["XDG_CACHE_HOME"]).rglob("*") if p.is_file()] == []


def test_a_named_tool_is_used_and_checked(home: dict[str, str], tmp_path: Path) -> None:
    own = tmp_path / "mine"
    own.write_bytes(program(183))
    assert find_tool(ARM64, own, environ=home) == own
    named = {**home, "MESS_BENCHMARK_MODEL": str(own)}
    assert find_tool(ARM64, environ=named) == own
    with pytest.raises(BenchError, match=r"mine \(MESS_BENCHMARK_MODEL\) is for ano"):
        find_tool(ARM, environ=named)
    own.write_text("#!/bin/sh\n")
    assert find_tool(ARM, environ=named) == own
    with pytest.raises(BenchError, match="No benchmark tool at .*absent"):
        find_tool(ARM64, tmp_path / "absent", environ=home)


def test_a_folder_may_hold_a_tool_for_each_kind(
    home: dict[str, str], tmp_path: Path
) -> None:
    for abi, machine in ((ARM64, 183), (ARM, 40)):
        (tmp_path / "tools" / abi).mkdir(parents=True)
        (tmp_path / "tools" / abi / "benchmark_model").write_bytes(program(machine))
    found = find_tool(ARM, tmp_path / "tools", environ=home)
    assert found.read_bytes() == program(40)


def test_the_digest_alone_tells_tools_apart(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(program(183))
    one, two = (read_tool(tmp_path / name) for name in ("one", "two"))
    assert one == two
    assert one.sha256 == hashlib.sha256(program(183)).hexdigest()

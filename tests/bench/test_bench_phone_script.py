"""The script of many benchmarks, run by this computer's own shell, and its frames."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from android_bench.adb.shell_output import STDOUT, as_lines
from android_bench.phones.script import (
    KILL,
    MAX_LOG_BYTES,
    NAME,
    Frame,
    FrameReader,
    make_script,
)

Run = Callable[..., bytes]
TOKEN = "mess-0123456789abcdef"


def read(output: bytes) -> tuple[list[Frame], FrameReader]:
    reader = FrameReader(TOKEN)
    found = [reader.feed(line) for line in as_lines([(STDOUT, output)])]
    return [frame for frame in found if frame is not None], reader


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def run(*commands: Sequence[str]) -> bytes:
        (tmp_path / NAME).write_text(make_script(TOKEN, commands))
        done = subprocess.run(
            ["sh", str(tmp_path / NAME)], capture_output=True, cwd="/", timeout=60
        )
        return done.stdout + done.stderr

    return run


def sh(text: str) -> list[str]:
    return ["sh", "-c", text]


def test_each_command_has_its_output_and_exit_code(run: Run) -> None:
    output = run(sh("echo one; echo two >&2"), sh("exit 3"), ["/absent"], sh("echo 4"))
    frames, reader = read(output)
    assert reader.done
    assert [frame.number for frame in frames] == [0, 1, 2, 3]
    assert [frame.exit_code for frame in frames] == [0, 3, 127, 0]
    assert frames[0].log == "one\ntwo\n"
    assert frames[1].log == ""
    assert "not found" in frames[2].log
    assert frames[3].log == "4\n"


def test_a_log_that_ends_inside_a_line_stays_so(run: Run) -> None:
    (frame,), _ = read(run(sh("echo whole; printf 'Inference (avg): 12'")))
    assert frame.log == "whole\nInference (avg): 12"


def test_a_command_that_is_killed_tells_its_signal(run: Run) -> None:
    frames, _ = read(run(sh("kill -9 $$"), sh("kill -SEGV $$"), sh("echo on")))
    assert [frame.exit_code for frame in frames] == [137, 139, 0]
    assert frames[2].log == "on\n"


def test_commands_read_no_input_and_are_quoted(run: Run) -> None:
    frames, _ = read(run(["cat"], ["printf", "%s\n", "a b; $(exit) `x` '\""]))
    assert frames[0].log == ""
    assert frames[1].log == "a b; $(exit) `x` '\"\n"


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="needs Linux's /proc")
def test_the_state_is_read_before_and_after_each(run: Run) -> None:
    busy = sh("i=0; while test $i -lt 200000; do i=$((i+1)); done")
    (frame,), _ = read(run(busy))
    assert frame.before.uptime_s is not None and frame.after.uptime_s is not None
    assert frame.after.uptime_s >= frame.before.uptime_s
    assert frame.before.boot_s and frame.before.busy_s.keys() >= {0}
    assert frame.before.boot_id == frame.after.boot_id
    assert frame.cpu_s is not None and 0.02 < frame.cpu_s < 30


def test_lines_outside_of_frames_are_nothing(run: Run) -> None:
    output = b"noise\n\xff\xfe" + run(sh("echo one")) + b"more noise\n"
    (frame,), reader = read(output)
    assert (frame.log, reader.done) == ("one\n", True)


def test_another_token_opens_no_frame(run: Run) -> None:
    forged = "echo mess-ffffffffffffffff end 0 0; echo real"
    (frame,), _ = read(run(sh(forged)))
    assert frame.log == "mess-ffffffffffffffff end 0 0\nreal\n"


def test_an_output_cut_anywhere_gives_whole_frames_only(run: Run) -> None:
    output = run(sh("echo one"), sh("echo two"))
    whole, _ = read(output)
    for end in range(0, len(output), 7):
        frames, reader = read(output[:end])
        assert frames == whole[: len(frames)]
        assert not reader.done or frames == whole


def test_who_runs_now_is_known() -> None:
    reader = FrameReader(TOKEN)
    reader.feed(f"{TOKEN} begin 4".encode())
    assert reader.running == 4
    reader.feed(f"{TOKEN} end 4 0".encode())
    assert reader.running is None


def test_damaged_marks_end_no_run() -> None:
    for said in ("end x 0", "end 4", "end 5 0", "end -1 0"):
        reader = FrameReader(TOKEN)
        for line in ("state", "begin 4", said, "state", "done"):
            assert reader.feed(f"{TOKEN} {line}".encode()) is None


def test_a_flood_is_noticed_and_not_kept() -> None:
    reader = FrameReader(TOKEN)
    reader.feed(f"{TOKEN} begin 0".encode())
    for _ in range(MAX_LOG_BYTES // 1000 + 1):
        reader.feed(b"x" * 1000)
    assert reader.flooded
    assert sum(map(len, reader._section)) <= MAX_LOG_BYTES


def test_a_script_that_loses_its_reader_takes_its_command_along(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text(make_script(TOKEN, [sh("exec sleep 50")]))
    script = subprocess.Popen(["sh", tmp_path / NAME], stdout=subprocess.PIPE)
    job = tmp_path / "job"
    _wait_for(lambda: job.exists() and job.read_text().strip().isdecimal())
    sleeper = int(job.read_text())
    script.send_signal(1)
    script.communicate(timeout=10)
    _wait_for(lambda: not _alive(sleeper))


def test_what_a_lost_script_left_is_ended(tmp_path: Path) -> None:
    (tmp_path / "benchmark_model").symlink_to(shutil.which("sleep") or "/bin/sleep")
    (tmp_path / NAME).write_text(make_script(TOKEN, [["./benchmark_model", "50"]]))
    with subprocess.Popen(["sh", tmp_path / NAME], stdout=subprocess.PIPE) as script:
        job = tmp_path / "job"
        _wait_for(lambda: job.exists() and job.read_text().strip().isdecimal())
        sleeper = int(job.read_text())
        subprocess.run(["sh", "-c", KILL], cwd=tmp_path, check=True)
        script.communicate(timeout=10)
    assert not _alive(sleeper)
    assert not job.exists()


def test_a_process_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "50"]) as stranger:
        (tmp_path / "job").write_text(str(stranger.pid))
        subprocess.run(["sh", "-c", KILL], cwd=tmp_path, check=True)
        assert _alive(stranger.pid)
        stranger.kill()


def _alive(pid: int) -> bool:
    try:
        text = Path("/proc", str(pid), "stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] != "Z"


def _wait_for(true: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)

"""What reaches the terminal: progress does, the chatter of libraries does not."""

from __future__ import annotations

import logging
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from mess_tf.core.errors import MessError
from mess_tf.terminal import progress as progress_module
from mess_tf.terminal.output_capture import (
    capture_output,
    move_output_to_log,
    terminal_descriptor,
)
from mess_tf.terminal.progress import parallel_progress, progress, show_progress


def test_descriptors_and_prints_go_to_the_log_and_come_back(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "deep" / "log.txt"
    before = terminal_descriptor()
    with capture_output(log) as captured:
        os.write(1, b"from C\n")
        print("from Python", flush=True)
        subprocess.run([sys.executable, "-c", "print('child')"], check=True)
        os.write(2, b"error stream\n")
        assert "from C" in captured()
    print("after")
    assert terminal_descriptor() == before
    assert capfd.readouterr().out == "after\n"
    text = log.read_text()
    for words in ("from C", "from Python", "child", "error stream"):
        assert words in text


def test_a_log_handler_made_meanwhile_still_works_afterwards(
    capfd: pytest.CaptureFixture[str],
) -> None:
    # absl makes its handler when TensorFlow is imported, and keeps sys.stderr for good.
    with capture_output():
        handler = logging.StreamHandler()
    handler.emit(logging.makeLogRecord({"msg": "later"}))
    assert capfd.readouterr().err == "later\n"


def test_a_log_is_appended_to_and_captured_is_only_what_is_new(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    for word in (b"first", b"second"):
        with capture_output(log) as captured:
            os.write(1, word)
            assert captured() == word.decode()
    assert log.read_text() == "firstsecond"


def test_a_log_may_begin_within_a_block_with_all_before_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "run" / "log.txt"
    with capture_output() as captured:
        os.write(1, b"before ")
        with capture_output():
            move_output_to_log(
                tmp_path / "other.txt"
            )  # not what the inner block catches
        move_output_to_log(log)
        assert log.read_text() == "before "
        os.write(2, b"after ")
        with capture_output():
            os.write(1, b"within")
        print("again", flush=True)
        assert log.read_text() == "before after again\n"  # a kill now would leave this
        assert captured() == "before after again\n"
        move_output_to_log(tmp_path / "second.txt")  # what has a log keeps it
    move_output_to_log(tmp_path / "third.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert capfd.readouterr() == ("", "")


def test_an_exception_passes_and_the_terminal_is_back(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(ValueError, match="boom"), capture_output():
        raise ValueError("boom")
    os.write(2, b"seen\n")
    assert capfd.readouterr().err == "seen\n"


def test_blocks_within_one_another_keep_the_real_terminal(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with capture_output() as outer:
        real = terminal_descriptor()
        with capture_output() as inner:
            assert terminal_descriptor() == real
            os.write(1, b"deep ")
            os.write(terminal_descriptor(), b"to the user\n")
            assert inner() == "deep "
        os.write(1, b"shallow")
        assert outer() == "shallow"
    assert capfd.readouterr() == ("", "to the user\n")


def test_a_log_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(MessError, match="Cannot write the log"),
        capture_output(tmp_path),
    ):
        pass


def test_open_descriptors_do_not_grow() -> None:
    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = count()
    for _ in range(5):
        with capture_output():
            pass
    assert count() == before


@pytest.fixture
def lines_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "_mode", "lines")


def test_off_a_terminal_a_line_comes_now_and_then(
    lines_mode: None,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    with progress("Training", 100) as step:
        for _ in range(50):
            now[0] += 2.0
            step(note="mIoU 0.5")
    lines = capfd.readouterr().err.splitlines()
    # 100 s at a line per 30 s; half is left after 50 steps of 2 s.
    assert len(lines) == 3
    assert lines[0] == "Training: 15%, 2 min 50 s left, mIoU 0.5"


def test_time_left_leaves_out_what_was_done_before_and_the_first_step(
    lines_mode: None,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    with progress("Training", 100) as step:
        step(49)  # by an earlier call
        now[0] += 300.0
        step(1)  # has to compile
        now[0] += 40.0
        step(10)
    lines = capfd.readouterr().err.splitlines()
    assert lines == ["Training: 50%", "Training: 60%, 2 min 40 s left"]


@pytest.mark.parametrize("mode", ["bars", "off"])
def test_otherwise_nothing_is_written_off_a_terminal(
    mode: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress_module, "_mode", mode)
    monkeypatch.setattr(progress_module, "LINE_EVERY_S", 0.0)
    with progress("Training", 2) as step:
        step()
        step.at(2, 2, "x")
        step.share("y", 1.0)
    assert capfd.readouterr() == ("", "")


def on_a_terminal(code: str) -> str:
    """What a program writes on a terminal of its own."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
        cwd=Path(__file__).resolve().parents[2],
    )
    os.close(slave)
    shown = b""
    try:
        while block := os.read(master, 4096):
            shown += block
    except OSError:
        pass  # Linux's way to say that the other end is closed
    os.close(master)
    assert process.wait(60) == 0, shown.decode()
    return shown.decode()


def test_on_a_terminal_a_bar_is_drawn_even_while_output_is_redirected() -> None:
    text = on_a_terminal(
        "import os\n"
        "from mess_tf.terminal.output_capture import capture_output\n"
        "from mess_tf.terminal.progress import progress\n"
        "with capture_output(), progress('Measuring', 4) as step:\n"
        "    os.write(1, b'CHATTER')\n"
        "    for i in range(4):\n"
        "        step(note='piece [3]')\n"
        "    with capture_output():\n"
        "        step.at(4, 4, 'done [x]')\n"
    )
    assert "Measuring" in text
    assert "100%" in text
    assert "done [x]" in text
    assert "CHATTER" not in text


def test_the_mode_is_set_for_the_process() -> None:
    before = progress_module._mode
    try:
        show_progress("off")
        assert progress_module._mode == "off"
    finally:
        show_progress(before)


def test_several_things_at_once_have_a_line_each_on_one_display() -> None:
    text = on_a_terminal(
        "import threading\n"
        "from mess_tf.terminal.progress import parallel_progress\n"
        "with parallel_progress() as step_of:\n"
        "    def work(name):\n"
        "        for i in range(1, 5):\n"
        "            step_of(name).at(i, 4 if name == 'one' else 8, f'of {name}')\n"
        "    threads = [threading.Thread(target=work, args=(n,)) for n in"
        " ('one', 'two [x]')]\n"
        "    for thread in threads: thread.start()\n"
        "    for thread in threads: thread.join()\n"
    )
    # The last drawing; what follows it shows the cursor again.
    one, two = [line for line in text.splitlines() if "of " in line][-2:]
    if "two" in one:  # in the order in which the threads came
        one, two = two, one
    assert "one" in one and "100%" in one and "of one" in one
    assert "two [x]" in two and "50%" in two and "of two [x]" in two


def test_off_a_terminal_each_thing_has_its_own_lines(
    lines_mode: None,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    with parallel_progress() as step_of:
        for count in range(1, 21):
            now[0] += 2.0
            step_of("Profiling A").at(count, 40)
            step_of("Profiling B").at(count, 20)
    lines = capfd.readouterr().err.splitlines()
    # A line per thing when 30 s have passed since its last: at 32 s, of 20 in 40 s.
    assert [line.partition(",")[0] for line in lines] == [
        "Profiling A: 40%",
        "Profiling B: 80%",
    ]

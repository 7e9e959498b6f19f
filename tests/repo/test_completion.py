"""What the Tab key does in a real bash and a real zsh."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 60


def script_for(shell: str) -> str:
    return f'eval "$({sys.executable} -m mess_tf.cli --completion {shell})"\n'


def completed(words: str) -> list[str]:
    """What bash offers for the last of the words."""
    script = (
        f"{script_for('bash')}"
        f"COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n"
        '_shtab_mess; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, cwd=ROOT, check=True
    )
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("mess qu", {"quickstart", "quantise"}),
        ("mess search r --max-l", {"--max-latency-ms"}),
        ("mess export r --form s", {"stages", "single"}),
        ("mess profile recipes/o", {"recipes/own.toml"}),
        ("mess train r --data rec", {"recipes"}),
    ],
)
@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_bash_completes_commands_options_choices_and_files(
    words: str, offered: set[str]
) -> None:
    assert set(completed(words)) == offered


class Zsh:
    """A zsh at a terminal, as one whose user has set nothing up."""

    def __init__(self, home: Path) -> None:
        self.master, slave = pty.openpty()
        environment = {**os.environ, "HOME": str(home), "TERM": "dumb"}
        self.process = subprocess.Popen(
            ["zsh", "-f", "-i"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=ROOT,
            env=environment,
        )
        os.close(slave)

    def type(self, keys: str, until: str) -> str:
        """Types, and reads until the terminal shows a text; gives what it showed."""
        os.write(self.master, keys.encode())
        os.set_blocking(self.master, False)
        shown, deadline = "", time.monotonic() + LIMIT_S
        while until not in shown:
            assert time.monotonic() < deadline, f"{keys!r} gave {shown!r}"
            try:
                shown += os.read(self.master, 4096).decode(errors="replace")
            except BlockingIOError:
                time.sleep(0.01)
        return shown

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)


@pytest.fixture(scope="module")
def zsh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zsh]:
    if shutil.which("zsh") is None:
        pytest.skip("no zsh here")
    zsh = Zsh(tmp_path_factory.mktemp("home"))
    # Quotes within the words: the terminal shows what is typed, too.
    shown = zsh.type(script_for("zsh") + 'print rea""dy\n', "ready")
    assert "not found" not in shown
    zsh.type('mess() { print -r -- "<$*>" }; print do""ne\n', "done")
    yield zsh
    zsh.close()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("quic", "quickstart"),
        ("search r --max-l", "search r --max-latency-ms"),
        ("export r --form st", "export r --form stages"),
        ("profile recipes/o", "profile recipes/own.toml"),
        ("train r --data reci", "train r --data recipes"),
    ],
)
def test_zsh_completes_commands_options_choices_and_files(
    zsh: Zsh, words: str, line: str
) -> None:
    zsh.type(f"mess {words}\t", line)
    assert f"<{line}>" in zsh.type("\n", "<")

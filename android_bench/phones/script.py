"""The shell script that runs many benchmarks, and the reader of its framed output.

Each shell command over adb costs a round trip and a process; a round of 24 short models
would spend as long on that as on measuring. So one session runs them all, and frames in
its output, marked with a random token that nothing on the phone can know, tell them
apart. Between two benchmarks the cheap part of the phone's state is read.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

from android_bench.adb.transport import quote_command
from android_bench.phones.conditions import QuickState, parse_quick
from android_bench.phones.shell_batch import STATE_COMMANDS

NAME = "round.sh"
MAX_LOG_BYTES = 4 * 2**20

# The script runs in a separate folder, so its text has no path. When the
# connection ends (HUP) or its output is not read any more (PIPE), it takes the
# benchmark with it: a left-over one would disturb the next.
_HEAD = """\
cd "${{0%/*}}" || exit 1
job=
trap 'test -n "$job" && kill -9 $job; exit 1' HUP TERM PIPE
say() {{ echo; echo "{token} $*"; }}
state() {{
say state
{quick} 2>/dev/null
times
}}
run() {{
number=$1
shift
say begin $number
"$@" </dev/null 2>&1 &
job=$!
echo $job >job
wait $job
code=$?
job=
: >job
say end $number $code
state
}}
echo $$ >shell
state
"""
_TAIL = "say done\n"

KILL = """\
for pid in $(cat shell job 2>/dev/null); do
{ test -r /proc/$pid/cmdline && ! grep -q -e benchmark_model -e round.sh \
/proc/$pid/cmdline; } || kill -9 $pid 2>/dev/null
done
rm -f shell job
"""
"""Ends what a script that broke off may have left running; run in its folder."""

_TIMES = re.compile(rb"\s*(\d+)m(\d+(?:[.,]\d+)?)s\s+(\d+)m(\d+(?:[.,]\d+)?)s\s*")


@dataclass(frozen=True)
class Frame:
    """One benchmark's output and the phone's state around it.

    Attributes:
        number: position in the script.
        log: its stdout and stderr, as printed: a last line without its end has none.
        cpu_s: processor time the benchmark took, seconds; None where not reported.
    """

    number: int
    exit_code: int
    log: str
    before: QuickState
    after: QuickState
    cpu_s: float | None


def make_script(token: str, commands: Sequence[Sequence[str]]) -> str:
    """The script that runs the commands, each an argument list, one after another."""
    runs = "".join(
        f"run {number} {quote_command(command)}\n"
        for number, command in enumerate(commands)
    )
    return _HEAD.format(token=token, quick=STATE_COMMANDS["quick"]) + runs + _TAIL


class FrameReader:
    """Assembles frames from the script's output.

    What is printed outside of frames is not ours and is ignored.

    Attributes:
        running: number of the benchmark that runs now, None between two.
        began: when it, or the wait for the next, began; ``time.monotonic()``.
        flooded: it has said more than any benchmark does; the rest is dropped.
        done: the script has come to its end.
    """

    def __init__(self, token: str) -> None:
        self._mark = token.encode() + b" "
        self._kind = ""
        self._section: list[bytes] = []
        self._size = 0
        self._states: list[tuple[QuickState, float | None]] = []
        self._ended: tuple[int, int, str] | None = None
        self.running: int | None = None
        self.began = time.monotonic()
        self.flooded = False
        self.done = False

    def feed(self, line: bytes) -> Frame | None:
        """Takes one line; returns the frame that it completes, if any."""
        at = line.find(self._mark)
        if at < 0:
            self._keep(line)
            return None
        if at:  # output without a line end stands before the mark
            self._keep(line[:at])
        frame = self._end_state() if self._kind == "state" else None
        self._begin(line[at + len(self._mark) :].decode("ascii", "replace"))
        return frame

    def _keep(self, line: bytes) -> None:
        self._size += len(line) + 1
        if self._size > MAX_LOG_BYTES:
            self.flooded = self.flooded or self.running is not None
        elif self._kind:
            self._section.append(line)

    def _begin(self, said: str) -> None:
        words = said.split()
        kind, numbers = words[0] if words else "", words[1:]
        if not all(map(str.isdecimal, numbers)):
            kind = ""
        if kind == "begin" and len(numbers) == 1:
            self.running = int(numbers[0])
        elif kind == "end" and len(numbers) == 2:
            self._end_run(int(numbers[0]), int(numbers[1]))
        elif kind == "done":
            self.done = True
        self._kind, self._section, self._size = kind, [], 0
        self.began = time.monotonic()

    def _end_run(self, number: int, code: int) -> None:
        if self._kind == "begin" and number == self.running:
            # `say` begins a new line: an empty one, unless the log's last has no end.
            log = b"\n".join(self._section)
            self._ended = number, code, log.decode("utf-8", "replace")
        self.running = None

    def _end_state(self) -> Frame | None:
        text = b"\n".join(self._section)
        quick = parse_quick(text.decode("utf-8", "replace"))
        self._states = [*self._states[-1:], (quick, _children_s(text))]
        if self._ended is None or len(self._states) < 2:
            return None
        (number, code, log), self._ended = self._ended, None
        (before, cpu_before), (after, cpu_after) = self._states
        cpu_s = None
        if cpu_before is not None and cpu_after is not None:
            cpu_s = cpu_after - cpu_before
        return Frame(number, code, log, before, after, cpu_s)


def _children_s(text: bytes) -> float | None:
    """Processor time of the shell's children, from the second line of ``times``."""
    found = [m for m in map(_TIMES.fullmatch, text.split(b"\n")) if m]
    if len(found) < 2:
        return None
    minutes, seconds, system_minutes, system_seconds = (
        float(number.replace(b",", b".")) for number in found[-1].groups()
    )
    return 60 * (minutes + system_minutes) + seconds + system_seconds

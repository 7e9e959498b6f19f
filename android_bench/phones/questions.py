"""Asks a phone several things in one command: a round trip each would take longer."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from android_bench.adb.transport import SHELL_TIMEOUT_S, Transport

CPU = "/sys/devices/system/cpu"

# A service of the phone that hangs leaves its question without an answer; phones before
# Android 8 have no `timeout`.
_BOUNDED = """\
bounded() {
if command -v timeout >/dev/null 2>&1; then timeout 5 "$@"; else "$@"; fi
}
"""

# Shell text of ours; nothing from outside goes into it.
FACTS: Mapping[str, str] = {
    "properties": "getprop",
    "cpuinfo": "cat /proc/cpuinfo",
    "online": f"cat {CPU}/online",
    "cpufreq": f"grep -H '' {CPU}/cpu[0-9]*/cpufreq/cpuinfo_max_freq",
    "gpu": "bounded dumpsys SurfaceFlinger | grep -m 1 GLES",
    "memory": "grep -m 1 MemTotal /proc/meminfo",
}
STATE: Mapping[str, str] = {
    "battery": "bounded dumpsys battery",
    "thermal": "bounded dumpsys thermalservice",
    "power": "bounded dumpsys power | grep -E 'mWakefulness=|Display Power: state="
    "|mIsBatterySaverEnabled=|mLowPowerModeEnabled='",
    "low_power": "bounded settings get global low_power",
    "quick": "grep -H -E '^[0-9a-f]+[-. 0-9]|^[0-9]+$|^cpu|^btime |^[a-z_]+$'"
    " /proc/uptime /proc/loadavg /proc/stat /proc/sys/kernel/random/boot_id"
    f" {CPU}/cpu[0-9]*/cpufreq/scaling_cur_freq"
    f" {CPU}/cpu[0-9]*/cpufreq/scaling_max_freq"
    f" {CPU}/cpu[0-9]*/cpufreq/scaling_governor",
}
"""``quick`` is cheap enough to be asked between two runs of the benchmark tool: of
``/proc/stat`` the cores' times and the time of boot, all of the other files."""


def ask(
    transport: Transport,
    questions: Mapping[str, str],
    timeout_s: float = SHELL_TIMEOUT_S,
) -> dict[str, str]:
    """The answers by name, complaints included; what was not answered is empty.

    Args:
        questions: shell text of ours by name.

    Raises:
        ConnectionLost: the phone is gone or does not answer in time.
    """
    mark = f"ask-{secrets.token_hex(8)} "
    script = _BOUNDED + "".join(
        f"echo; echo '{mark}{name}'\n{{ {command}\n}} 2>&1\n"
        for name, command in questions.items()
    )
    text = transport.shell(["sh", "-c", script], timeout_s).text
    answers = dict.fromkeys(questions, "")
    for part in text.split(mark)[1:]:
        name, _, answer = part.partition("\n")
        if name in answers:
            # The empty line belongs to the next question.
            answers[name] = answer.removesuffix("\n")
    return answers

"""Runs several shell commands on a phone in one round trip."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from android_bench.adb.transport import SHELL_TIMEOUT_S, Transport

CPU = "/sys/devices/system/cpu"

# A service of the phone that hangs leaves its command without output; phones before
# Android 8 have no `timeout`.
_BOUNDED = """\
bounded() {
if command -v timeout >/dev/null 2>&1; then timeout 5 "$@"; else "$@"; fi
}
"""

# Constants: nothing that a user types goes into this shell text.
FACT_COMMANDS: Mapping[str, str] = {
    "properties": "getprop",
    "cpuinfo": "cat /proc/cpuinfo",
    "online": f"cat {CPU}/online",
    "cpufreq": f"grep -H '' {CPU}/cpu[0-9]*/cpufreq/cpuinfo_max_freq",
    "gpu": "bounded dumpsys SurfaceFlinger | grep -m 1 GLES",
    "memory": "grep -m 1 MemTotal /proc/meminfo",
}
STATE_COMMANDS: Mapping[str, str] = {
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
"""``quick`` is cheap enough to run between two runs of the benchmark tool: of
``/proc/stat`` the cores' times and the time of boot, all of the other files."""


def run_batch(
    transport: Transport,
    commands: Mapping[str, str],
    timeout_s: float = SHELL_TIMEOUT_S,
) -> dict[str, str]:
    """Output of each command by name, stderr included; empty where there was none.

    Args:
        commands: shell text by name, constants of this package only.

    Raises:
        ConnectionLost: the phone is gone or does not answer in time.
    """
    mark = f"batch-{secrets.token_hex(8)} "
    script = _BOUNDED + "".join(
        f"echo; echo '{mark}{name}'\n{{ {command}\n}} 2>&1\n"
        for name, command in commands.items()
    )
    text = transport.shell(["sh", "-c", script], timeout_s).text
    outputs = dict.fromkeys(commands, "")
    for part in text.split(mark)[1:]:
        name, _, output = part.partition("\n")
        if name in outputs:
            # The empty line belongs to the next command.
            outputs[name] = output.removesuffix("\n")
    return outputs

"""The benchmark tool on a phone: installed once; its flags and core masks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from android_bench.errors import BenchError
from android_bench.phones.flags import known_flags
from android_bench.phones.folder import NoSpace
from android_bench.phones.session import PhoneSession
from android_bench.phones.tool_file import find_tool, read_tool
from android_bench.records import Tool

_HELP_S = 60.0
_DOES_NOT_RUN = re.compile(
    r"CANNOT LINK|not executable|Permission denied|not found|No such file"
    r"|[Ee]xec format error|can't execute|cannot execute"
)


class PhoneTool:
    """One tool of one phone.

    Args:
        abi: of the programs that the phone runs.
        given: the tool's file; see ``tool_file.find_tool``.
        inputs: it must run given inputs and write outputs.
        name: its file name on the phone.

    Raises:
        BenchError: there is no tool for such phones.
    """

    def __init__(self, abi: str, given: Path | None, inputs: bool, name: str) -> None:
        self._path = find_tool(abi, given, inputs=inputs)
        self._known: frozenset[str] | None = None
        self._masks: dict[str, bool] = {}
        self.name = name
        self.record: Tool = read_tool(self._path)

    def install(self, session: PhoneSession) -> None:
        """Makes it ready on the phone, once, and again after the connection was lost.

        Raises:
            BenchError: the phone does not take it or cannot run it.
            ConnectionLost: the phone is gone.
        """
        folder, digest = session.folder, self.record.sha256
        if folder.has_verified(self.name, digest):
            return
        try:
            refused = folder.push_verified({self.name: (self._path, digest)}, 0o755)
        except NoSpace:
            refused = {self.name: f"no space left in {folder.path}"}
        if refused:
            raise BenchError(
                f"The benchmark tool {self._path} cannot be brought to"
                f" {session.transport.label}: {refused[self.name]}."
            )
        path = folder.at(self.name)
        session.transport.shell(["chmod", "755", path])
        if self._known is not None:
            return
        said = session.transport.shell([path, "--help"], timeout_s=_HELP_S)
        if said.exit_code in (126, 127) or _DOES_NOT_RUN.search(said.text):
            lines = said.text.strip().splitlines() or [f"exit code {said.exit_code}"]
            raise BenchError(
                f"The benchmark tool {self._path} does not run on"
                f" {session.transport.label}: {lines[-1].strip()}. Is it for this kind"
                " of phone?"
            )
        self._known = known_flags(said.text)

    @property
    def known(self) -> frozenset[str]:
        """Flags that it lists in its help; empty where it lists none."""
        return self._known or frozenset()

    def takes_mask(self, session: PhoneSession, mask: str) -> bool:
        """Whether programs can be bound to these cores on the phone."""
        if mask not in self._masks:
            result = session.transport.shell(["taskset", mask, "true"])
            self._masks[mask] = result.exit_code == 0
        return self._masks[mask]


def command_of(path: str, flags: Sequence[str], mask: str | None) -> list[str]:
    """The argument list that runs a tool with flags on the cores of a mask."""
    return [*(() if mask is None else ("taskset", mask)), path, *flags]

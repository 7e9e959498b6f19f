"""The phone behind adbd: its files, its programs, and who answers them."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from phone_double import answers, stand_in
from phone_double.commands import (
    COMMANDS,
    HOST_PROGRAMS,
    Answer,
    Become,
    Context,
    Reply,
    Script,
)
from phone_double.files import FileTree
from phone_double.phones import Phone
from phone_double.processes import Processes
from phone_double.shell_paths import PathMap
from phone_double.state import PhoneState, Uptime

BENCHMARK = "@benchmark"
_REFRESH_S = 0.2
_BIN = "/system/bin"

# What the stand-in of the benchmark tool tells and asks; gives what to answer.
AnswerTool = Callable[[dict[str, Any]], dict[str, Any]]


class System:
    """One running phone: /proc and /sys are kept up to date, commands are answered.

    Args:
        folder: an empty folder for its own use; taken away by ``close``.
    """

    def __init__(
        self,
        phone: Phone,
        state: PhoneState,
        folder: Path,
        answer_tool: AnswerTool,
        tool_load: Callable[[], float],
    ) -> None:
        self.phone, self.state = phone, state
        self.uptime = Uptime(phone.cores)
        (folder / "root").mkdir()
        self.tree = FileTree(folder / "root")
        self.paths = PathMap(str(self.tree.root))
        self.shell = shutil.which("dash") or "/bin/sh"
        self._folder = folder
        self._answer_tool, self._tool_load = answer_tool, tool_load
        self._told: dict[str, str] = {}
        self._refreshing = threading.Lock()
        self._ended = threading.Event()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(folder / "answers"))
        self._socket.listen(64)
        self.processes = Processes(self.tree.root, self._environment())
        self._context = Context(
            phone, state, self.uptime, self.tree, self.processes, {}, self._script
        )
        self._lay_files()
        for work in (self._answer_all, self._keep_fresh):
            threading.Thread(target=work, daemon=True).start()

    def close(self) -> None:
        self._ended.set()
        self.processes.close()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        with self._refreshing:
            self.tree.remove()
        shutil.rmtree(self._folder, ignore_errors=True)

    def refresh(self) -> None:
        """Writes what has changed in /proc and /sys."""
        with self._refreshing:
            if self._ended.is_set():
                return
            for path, content in answers.changing_files(
                self.phone, self.state, self.uptime, self._tool_load()
            ):
                if self._told.get(path) != content and path not in self.phone.refused:
                    self.tree.write(path, content)
                    self._told[path] = content

    # === Files and programs ===

    def _environment(self) -> dict[str, str]:
        root = self.tree.root
        return {
            "PATH": f"{root}{_BIN}",
            "HOME": str(root),
            "SHELL": "/bin/sh",
            "USER": "shell",
            "LOGNAME": "shell",
            "HOSTNAME": "localhost",
            "TERM": "dumb",
            "ANDROID_ROOT": f"{root}/system",
            "ANDROID_DATA": f"{root}/data",
            "EXTERNAL_STORAGE": f"{root}/sdcard",
            "TMPDIR": f"{root}/data/local/tmp",
            "LC_ALL": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",
            stand_in.SOCKET: str(self._folder / "answers"),
            stand_in.SHELL: self.shell,
        }

    def _lay_files(self) -> None:
        for path, content in answers.fixed_files(self.phone).items():
            self.tree.write(path, content, 0 if path in self.phone.refused else 0o444)
        programs = self.tree.host_path(_BIN)
        programs.mkdir(parents=True)
        for name in HOST_PROGRAMS:
            found = shutil.which(name)
            if found and name not in self.phone.absent:
                (programs / name).symlink_to(found)
        python, script = shlex.quote(sys.executable), shlex.quote(stand_in.__file__)
        for name in COMMANDS:
            if name not in self.phone.absent:
                text = f'#!{self.shell}\nexec {python} -I -S {script} {name} "$@"\n'
                self.tree.write(f"{_BIN}/{name}", text, 0o555)
        self.refresh()
        self.tree.seal()

    def _keep_fresh(self) -> None:
        while not self._ended.wait(_REFRESH_S):
            self.refresh()

    # === Commands ===

    def _answer_all(self) -> None:
        while not self._ended.is_set():
            try:
                channel, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(channel,), daemon=True).start()

    def _answer(self, channel: socket.socket) -> None:
        with channel, contextlib.suppress(OSError):
            parts = []
            while part := channel.recv(65536):
                parts.append(part)
            folder, name, *args = map(os.fsdecode, b"".join(parts).split(b"\0"))
            if name == BENCHMARK:
                told = json.loads(args[0])
                told["model"] = self.tree.device_path(os.path.join(folder, args[1]))
                channel.sendall(json.dumps(self._answer_tool(told)).encode())
                return
            self.refresh()
            reply = COMMANDS[name](self._context, name, [folder, *args][1:])
            channel.sendall(_as_bytes(reply))

    def _script(self, args: Sequence[str]) -> Reply:
        """``sh`` with a file: its text with the host's paths."""
        flags = []
        while args and args[0].startswith("-") and args[0] not in ("-c", "-s", "-"):
            flags.append(args[0])
            args = args[1:]
        if args and args[0] == "-c":
            return Become([self.shell, *flags, *args])
        if not args or args[0] in ("-s", "-"):
            return Become([self.shell, *flags, *args])
        try:
            text = Path(args[0]).read_bytes().decode(errors="surrogateescape")
        except OSError as error:
            name = self.tree.device_path(args[0])
            return Answer(code=127, err=f"sh: {name}: {error.strerror}\n")
        return Script(self.paths.to_host(text), flags, args)


def _as_bytes(reply: Reply) -> bytes:
    if isinstance(reply, Answer):
        fields = ["answer", str(reply.code), reply.out, reply.err]
    elif isinstance(reply, Become):
        variables = [f"{k}={v}" for k, v in reply.environment.items()]
        fields = ["exec", str(len(variables)), *variables, *reply.argv]
    else:
        fields = ["script", reply.text, " ".join(reply.flags), *reply.words]
    return os.fsencode("\0".join(fields))

"""The phone behind adbd: its files, its programs, and who answers them."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
import shutil
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.phone_double.benchmark import run as benchmark_run
from tests.phone_double.benchmark.desk import BenchmarkDesk
from tests.phone_double.faults import Faults
from tests.phone_double.phones import answers
from tests.phone_double.phones.phone import Phone
from tests.phone_double.phones.state import PhoneState, Uptime
from tests.phone_double.system import stand_in
from tests.phone_double.system.command_records import (
    Answer,
    Become,
    Context,
    Reply,
    Script,
)
from tests.phone_double.system.commands import COMMANDS
from tests.phone_double.system.file_commands import HOST_PROGRAMS
from tests.phone_double.system.files import FileTree
from tests.phone_double.system.process_commands import as_on_phone
from tests.phone_double.system.processes import Processes
from tests.phone_double.system.shell_paths import PathMap
from tests.phone_double.system.shell_service import Shell

_REFRESH_S = 0.2
_BIN = "/system/bin"


class System:
    """One running phone: /proc and /sys are kept up to date, commands are answered.

    Args:
        folder: an empty folder for its own use; taken away by ``close``.
        reboot: what the command ``reboot`` does.
    """

    def __init__(
        self,
        phone: Phone,
        state: PhoneState,
        faults: Faults,
        folder: Path,
        reboot: Callable[[], None],
    ) -> None:
        self.phone, self.state, self.faults = phone, state, faults
        self._folder = folder
        self.uptime = Uptime()
        self.desk = BenchmarkDesk(folder / "runs", phone, state, faults, self.refresh)
        (folder / "root").mkdir()
        self.tree = FileTree(folder / "root")
        self.processes = Processes(self.tree.root, self._environment())
        self._context = Context(
            phone,
            state,
            self.uptime,
            self.tree,
            self.processes,
            {},
            self._script,
            reboot,
        )
        self.shell = self._make_shell()
        self._told: dict[str, str] = {}
        self._refreshing = threading.Lock()
        self._ended = threading.Event()
        self._lay_files()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(folder / "answers"))
        self._socket.listen(64)
        for work in (self._answer_all, self._keep_fresh):
            threading.Thread(target=work, daemon=True).start()

    def close(self) -> None:
        self._ended.set()
        self.processes.close()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self.desk.close()
        with self._refreshing:
            self.tree.remove()
        shutil.rmtree(self._folder, ignore_errors=True)

    def restart(self) -> None:
        """A reboot: what ran is gone, what lies below /data/local/tmp stays."""
        self.processes.kill_all()
        self.uptime.restart()
        self.refresh()

    def refresh(self) -> None:
        """Writes what has changed in /proc and /sys."""
        with self._refreshing:
            if self._ended.is_set():
                return
            if self.state.evolve is not None:
                self.state.evolve(self.state)
            run_s = self.desk.take_cpu_s()
            files = dict(
                answers.changing_files(self.phone, self.state, self.uptime, run_s)
            )
            for process in self.processes.list():
                argv = as_on_phone(self._context, process.argv)
                files[f"/proc/{process.pid}/cmdline"] = "\0".join([*argv, ""])
            for path in [p for p in self._told if p not in files]:
                self.tree.remove_folder(os.path.dirname(path))
                del self._told[path]
            for path, content in files.items():
                if self._told.get(path) != content and path not in self.phone.refused:
                    self.tree.write(path, content)
                    self._told[path] = content

    # === Files and programs ===

    def _environment(self) -> dict[str, str]:
        root = self._folder / "root"
        return {
            "PATH": f"{root}{_BIN}",
            "HOME": str(root),
            "SHELL": "/bin/sh",
            "USER": "shell",
            "LOGNAME": "shell",
            "HOSTNAME": "localhost",
            "TERM": "dumb",
            "PS1": "$ ",
            "ANDROID_ROOT": f"{root}/system",
            "ANDROID_DATA": f"{root}/data",
            "EXTERNAL_STORAGE": f"{root}/sdcard",
            "TMPDIR": f"{root}/data/local/tmp",
            "ENV": str(self._folder / "prelude"),
            "LC_ALL": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
            stand_in.SOCKET: str(self._folder / "answers"),
            stand_in.SHELL: _host_shell(),
            benchmark_run.DESK: str(self._folder / "runs"),
        }

    def _make_shell(self) -> Shell:
        # The shell's own `kill` would reach the host's processes, `cd /` its files.
        root = self.tree.root
        prelude = (
            f'kill() {{ {root}{_BIN}/kill "$@"; }}; '
            f'cd() {{ test "$*" = / && set -- {root}; command cd "$@"; }}; '
        )
        (self._folder / "prelude").write_text(prelude + "\n")
        return Shell(
            program=_host_shell(),
            prelude=prelude,
            programs=frozenset([*self._programs(), *HOST_PROGRAMS]),
            processes=self.processes,
            paths=PathMap(str(self.tree.root)),
            noise=lambda: self.faults.shell_noise,
            sdk=self.phone.sdk,
        )

    def _lay_files(self) -> None:
        for path, content in self.phone.files.items():
            self.tree.write(path, content, 0 if path in self.phone.refused else 0o444)
        for name, text in self._programs().items():
            self.tree.write(f"{_BIN}/{name}", text, 0o555)
        for name in HOST_PROGRAMS:
            found = shutil.which(name)
            if found and name not in self.phone.absent:
                self.tree.host_path(f"{_BIN}/{name}").symlink_to(found)
        self.refresh()
        self.tree.seal()

    def _programs(self) -> dict[str, str]:
        """Contents of the files that run commands of our own."""
        python, script = shlex.quote(sys.executable), shlex.quote(stand_in.__file__)
        return {
            name: f'#!/bin/sh\nexec {python} -I -S {script} {name} "$@"\n'
            for name in COMMANDS
            if name not in self.phone.absent
        }

    def _keep_fresh(self) -> None:
        while not self._ended.wait(_REFRESH_S):
            if self.processes.busy:
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
            if name != "kill":
                self.refresh()
            reply = self._reply(folder, name, args)
            if reply is None:
                self._ended.wait()
            else:
                channel.sendall(_as_bytes(reply))

    def _reply(self, folder: str, name: str, args: Sequence[str]) -> Reply | None:
        """None: the command is to hang."""
        words = [self.tree.device_path(word) for word in (name, *args)]
        spoilt = self.faults.take_answer(" ".join(words))
        if spoilt is not None:
            text, code = spoilt
            return None if text is None else Answer(text, code)
        context = dataclasses.replace(self._context, folder=folder)
        return COMMANDS[name](context, name, args)

    def _script(self, folder: str, args: Sequence[str]) -> Reply:
        """``sh``: with a file, its text with the host's paths."""
        flags = []
        while args and args[0].startswith("-") and args[0] not in ("-c", "-s", "-"):
            flags.append(args[0])
            args = args[1:]
        if not args or args[0] in ("-s", "-"):
            return Script(self.shell.prelude, flags, ())
        if args[0] == "-c" and len(args) > 1:
            words = ["sh", *flags, "-c", self.shell.text(args[1]), *args[2:]]
            return Become(words, _host_shell())
        try:
            text = Path(folder, args[0]).read_bytes().decode(errors="surrogateescape")
        except OSError as error:
            name = self.tree.device_path(args[0])
            return Answer(code=127, err=f"sh: {name}: {error.strerror}\n")
        return Script(self.shell.prelude + self.shell.paths.to_host(text), flags, args)


def _host_shell() -> str:
    return shutil.which("dash") or "/bin/sh"


def _as_bytes(reply: Reply) -> bytes:
    if isinstance(reply, Answer):
        fields = ["answer", str(reply.code), reply.out, reply.err]
    elif isinstance(reply, Become):
        variables = [f"{k}={v}" for k, v in reply.environment.items()]
        program = reply.program or reply.argv[0]
        fields = ["exec", program, str(len(variables)), *variables, *reply.argv]
    else:
        fields = ["script", reply.text, " ".join(reply.flags), *reply.words]
    return os.fsencode("\0".join(fields))

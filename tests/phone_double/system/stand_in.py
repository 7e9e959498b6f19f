"""The program behind the phone's own commands: asks the double, prints its answer.

Run by ``sh`` wrappers in the phone's /system/bin as ``stand_in.py NAME ARGUMENT...``.
It imports next to nothing, because each command of a script starts it.
"""

import os
import socket
import sys

SOCKET = "PHONE_DOUBLE_SOCKET"
SHELL = "PHONE_DOUBLE_SHELL"
ROOT = "PHONE_DOUBLE_ROOT"


def ask(fields: list[str]) -> list[bytes]:
    """Sends fields to the double; its answer's fields."""
    with socket.socket(socket.AF_UNIX) as channel:
        channel.connect(os.environ[SOCKET])
        channel.sendall(os.fsencode("\0".join(fields)))
        channel.shutdown(socket.SHUT_WR)
        parts = []
        while part := channel.recv(65536):
            parts.append(part)
    return b"".join(parts).split(b"\0")


def main() -> int:
    try:
        kind, *rest = ask([os.getcwd(), *sys.argv[1:]])
    except OSError:
        # The phone is going down.
        return 255
    if kind == b"exec":
        program, count, *words = map(os.fsdecode, rest)
        for assignment in words[: int(count)]:
            name, _, value = assignment.partition("=")
            os.environ[name] = value
        argv = words[int(count) :]
        try:
            os.execvp(program, argv)
        except OSError as error:
            print(f"{sys.argv[1]}: {argv[0]}: {error.strerror}", file=sys.stderr)
            return 127
    if kind == b"script":
        return run_script(*rest)
    code, out, err = rest
    with open(1, "wb", closefd=False) as stdout, open(2, "wb", closefd=False) as stderr:
        stdout.write(out)
        stderr.write(err)
    return int(code)


def run_script(text: bytes, flags: bytes, *words: bytes) -> int:
    """Becomes the shell that runs ``text``; ``words`` are the script and arguments."""
    argv = ["sh", *os.fsdecode(flags).split(), "-c"]
    shell = os.environ[SHELL]
    if not words:
        translate_stdin()
        os.execv(shell, [*argv, os.fsdecode(text) + ". /dev/stdin"])
    fd = os.memfd_create("script", 0)
    os.write(fd, text)
    # Read from a descriptor, so that $0 and the arguments are those of the script.
    os.execv(shell, [*argv, f". /dev/fd/{fd}", *map(os.fsdecode, words)])


def translate_stdin() -> None:
    """Puts a pipe in place of stdin, whose text has the host's paths."""
    outlet, inlet = os.pipe()
    if os.fork():
        os.close(inlet)
        os.dup2(outlet, 0)
        return
    os.dup2(inlet, 1)
    filter_program = os.path.join(os.path.dirname(__file__), "shell_paths.py")
    os.execv(
        sys.executable,
        [sys.executable, "-I", "-S", filter_program, os.environ[ROOT]],
    )


if __name__ == "__main__":
    sys.exit(main())

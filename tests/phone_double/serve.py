"""Runs a phone double by hand: ``python -m tests.phone_double.serve --list``."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from pathlib import Path

from tests.phone_double.adbd.auth import Trust
from tests.phone_double.benchmark.tool import write_tool
from tests.phone_double.double import PhoneDouble
from tests.phone_double.phones.phone import PHONES, Phone
from tests.phone_double.phones.recorded import RECORDINGS, load_recorded


def parse_arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--phone", default="big-little", help="which one; see --list")
    parser.add_argument("--port", type=int, default=5555, help="0: any that is free")
    parser.add_argument("--recordings", type=Path, help="folder of recorded phones")
    parser.add_argument("--list", action="store_true", help="names of all phones")
    parser.add_argument(
        "--tool", type=Path, help="also writes the file to push as tool"
    )
    parser.add_argument("--no-auth", action="store_true", help="asks for no key")
    parser.add_argument(
        "--tap",
        type=float,
        default=0.0,
        metavar="S",
        help="seconds until its owner allows a new key; negative: never",
    )
    return parser.parse_args(words)


def choose_phone(name: str, recordings: Path | None) -> Phone:
    """Raises SystemExit when there is none of that name."""
    if name in PHONES:
        return PHONES[name]
    if recordings is not None and name in RECORDINGS:
        return load_recorded(recordings, name)
    more = [] if recordings is None else [*RECORDINGS]
    raise SystemExit(
        f"Phone {name!r} is unknown; accepted: {', '.join([*PHONES, *more])}"
        + ("" if recordings else "; more with --recordings FOLDER")
        + "."
    )


def main(words: list[str] | None = None) -> int:
    arguments = parse_arguments(words)
    if arguments.list:
        print("\n".join([*PHONES, *(RECORDINGS if arguments.recordings else ())]))
        return 0
    if arguments.tool is not None:
        write_tool(arguments.tool)
    phone = choose_phone(arguments.phone, arguments.recordings)
    trust = Trust(not arguments.no_auth, None if arguments.tap < 0 else arguments.tap)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with PhoneDouble(phone, port=arguments.port, trust=trust) as double:
        print(f"{phone.name} at {double.serial}: adb connect {double.serial}")
        print(f"its files: {double.host_path('/')}", flush=True)
        stop.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())

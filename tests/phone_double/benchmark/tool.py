"""A stand-in of TFLite's benchmark tool: its flags, its output, and real times.

``write_tool`` makes the file to push; on the phone that file runs this one.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[3]


def write_tool(path: Path, text: str = "", abi: str = "any") -> Path:
    """Makes the file to push as ``benchmark_model``.

    Args:
        text: anything, so that files differ as versions of the tool do.
        abi: e.g. ``arm64-v8a``: phones that do not run such programs refuse it.
    """
    path.write_text(
        f"#!/bin/sh\n# A stand-in of TFLite's benchmark tool. {text}\n"
        f"PYTHONPATH={shlex.quote(str(_ROOT))} exec {shlex.quote(sys.executable)} -P"
        f' {shlex.quote(__file__)} {abi} "$0" "$@"\n'
    )
    path.chmod(0o755)
    return path


if __name__ == "__main__":
    from tests.phone_double.benchmark.run import main

    sys.exit(main())

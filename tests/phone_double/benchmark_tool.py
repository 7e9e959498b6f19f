"""A stand-in of TFLite's benchmark tool: its flags, its output, and real times.

``write_tool`` makes the file to push; on the phone that file runs this one.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path


def write_tool(path: Path, text: str = "", abi: str = "any") -> Path:
    """Makes the file to push as ``benchmark_model``.

    Args:
        text: anything, so that files differ as versions of the tool do.
        abi: e.g. ``arm64-v8a``: phones that do not run such programs refuse it.
    """
    path.write_text(
        f"#!/bin/sh\n# A stand-in of TFLite's benchmark tool. {text}\n"
        f'exec {shlex.quote(sys.executable)} {shlex.quote(__file__)} {abi} "$0" "$@"\n'
    )
    path.chmod(0o755)
    return path


if __name__ == "__main__":
    # Run by its path: the folder of the package is not on the module path.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    from phone_double.benchmark_run import main

    sys.exit(main())

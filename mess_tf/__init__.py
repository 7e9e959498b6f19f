"""MESS for TensorFlow: multi-exit segmentation networks, from training to the phone.

Every command of ``mess`` is a function here, with the same name and defaults:

    import mess_tf

    mess_tf.train("runs/mine", recipe="own", data="my_images")
    mess_tf.compile("runs/mine")
    mess_tf.evaluate("runs/mine")
    mess_tf.profile("runs/mine", mess_tf.MeasureOptions(preset="report"))
    mess_tf.search("runs/mine", mess_tf.Requirement(max_drop_pp=1))

Options that belong together are frozen records: ``MeasureOptions``, ``Requirement``,
``SearchOptions`` and ``ExportForm``. The functions return plain values, print nothing,
and raise ``MessError`` (or ``BenchError`` of ``android_bench``) for what the user can
put right. Beside them stand ``adopt`` and ``flatten`` for networks of your own, and
``LinkedModel``, which runs an exported file.

Nothing is imported before it is used: TensorFlow takes seconds to load. What it prints
is left alone here; ``capture_output`` of ``mess_tf.terminal.output_capture`` sends it
into a file, as the command line does. What TensorFlow reads from the environment when
it is loaded is set by the first use of a name here, unless you set it
(``mess_tf.core.tensorflow_environment``).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from android_bench.options import MeasureOptions as MeasureOptions
    from mess_tf.commands.check import check as check
    from mess_tf.commands.compile import compile as compile
    from mess_tf.commands.devices import devices as devices
    from mess_tf.commands.evaluate import evaluate as evaluate
    from mess_tf.commands.export import export as export
    from mess_tf.commands.info import info as info
    from mess_tf.commands.profile import profile as profile
    from mess_tf.commands.quantise import quantise as quantise
    from mess_tf.commands.quickstart import quickstart as quickstart
    from mess_tf.commands.report import report as report
    from mess_tf.commands.run import run as run
    from mess_tf.commands.search import search as search
    from mess_tf.commands.search_options import SearchOptions as SearchOptions
    from mess_tf.commands.train import train as train
    from mess_tf.core.errors import MessError as MessError
    from mess_tf.exporting.options import ExportForm as ExportForm
    from mess_tf.models.adoption import adopt as adopt
    from mess_tf.models.flatten import flatten as flatten
    from mess_tf.runtime.linked_model import LinkedModel as LinkedModel
    from search.requirement import Requirement as Requirement

    __version__: str

DISTRIBUTION = "mess-tf"
COMMANDS = (
    "quickstart", "train", "compile", "evaluate", "devices", "profile", "search",
    "quantise", "export", "check", "run", "report", "info",
)  # fmt: skip
_PUBLIC = {name: f"mess_tf.commands.{name}" for name in COMMANDS} | {
    "ExportForm": "mess_tf.exporting.options",
    "LinkedModel": "mess_tf.runtime.linked_model",
    "MeasureOptions": "android_bench.options",
    "MessError": "mess_tf.core.errors",
    "Requirement": "search.requirement",
    "SearchOptions": "mess_tf.commands.search_options",
    "adopt": "mess_tf.models.adoption",
    "flatten": "mess_tf.models.flatten",
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name not in _PUBLIC:
        raise AttributeError(f"module 'mess_tf' has no attribute {name!r}")
    from mess_tf.core.tensorflow_environment import set_tensorflow_defaults

    set_tensorflow_defaults()
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "(not installed)"

"""What TensorFlow reads from the environment when it is loaded, set in one place."""

from __future__ import annotations

import os

DEFAULTS = {
    # Its start-up lines say nothing that a user could act on.
    "TF_CPP_MIN_LOG_LEVEL": "3",
    # TensorFlow turns oneDNN's kernels on by the make of the processor: off on many
    # AMD and older Intel ones, where a training step then takes up to 1.8 times as
    # long. One setting for all makes results differ less from machine to machine.
    "TF_ENABLE_ONEDNN_OPTS": "1",
}


def set_tensorflow_defaults() -> None:
    """Sets ``DEFAULTS``; a variable that the user has set is left as it is.

    Without effect on a TensorFlow that is loaded already.
    """
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)

"""Checkpoints: all variables of a stage and where it stands, in one ``.npz``.

Written whole or not at all after every epoch; no pickles inside. A run that was killed
goes on from the last finished epoch and ends with the weights of an uninterrupted one:
data order and augmentation depend only on (seed, epoch, index), see ``mess_tf.data``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mess_tf.core.errors import MessError
from mess_tf.core.files import UNREADABLE, write_atomically


def save_checkpoint(
    path: Path, variables: Sequence[Any], epoch: int, fingerprint: str
) -> None:
    """Stores variables after ``epoch`` finished epochs.

    Args:
        path: ``.npz`` file.
        variables: Keras variables, always in the same order.
        epoch: epochs that are finished.
        fingerprint: of everything that decides the result; see ``load_checkpoint``.
    """
    arrays: dict[str, Any] = {
        f"v{i}": np.asarray(v) for i, v in enumerate(map(_value, variables))
    }
    with write_atomically(path) as temporary, temporary.open("wb") as file:
        np.savez(
            file, epoch=np.int64(epoch), fingerprint=np.array(fingerprint), **arrays
        )


def load_checkpoint(path: Path, variables: Sequence[Any], fingerprint: str) -> int:
    """Fills ``variables`` and returns the number of finished epochs; 0 if none.

    Raises:
        MessError: the file is broken, or was made by another recipe.
    """
    if not path.is_file():
        return 0
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            if str(stored["fingerprint"]) != fingerprint:
                raise MessError(
                    f"The checkpoint {path} was made with other settings. Train into a"
                    " new run folder, or delete the file to start over."
                )
            for i, variable in enumerate(variables):
                variable.assign(stored[f"v{i}"])
            return int(stored["epoch"])
    except UNREADABLE as error:
        raise MessError(
            f"The checkpoint {path} cannot be read ({error}). Delete it to start over."
        ) from error


def _value(variable: Any) -> Any:
    import keras

    return keras.ops.convert_to_numpy(variable.value)

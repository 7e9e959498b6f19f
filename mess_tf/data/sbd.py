"""Masks of the Semantic Boundaries Dataset (Hariharan et al., 2011): MATLAB files."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np

from mess_tf.core.errors import MessError

# What scipy lets through from a file that is broken, cut off or of another kind.
_UNREADABLE = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    NotImplementedError,
    MemoryError,
    OverflowError,
    struct.error,
    zlib.error,
)


def read_sbd_labels(path: Path) -> np.ndarray:
    """Decodes a mask of ``cls/*.mat``: the field ``Segmentation`` of ``GTcls``.

    Returns:
        uint8 array of shape (h, w): the ids as stored.

    Raises:
        MessError: the file is missing, broken, cut off, or holds no such field.
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        labels = loadmat(path, variable_names=["GTcls"])["GTcls"]["Segmentation"][0, 0]
    except FileNotFoundError:
        raise MessError(f"There is no mask {path}.") from None
    except (*_UNREADABLE, MatReadError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise MessError(
            f"The mask {path} cannot be read ({lines[0]}); it may be broken or cut off,"
            " or no file of SBD's folder cls. Replace the file."
        ) from error
    if labels.dtype != np.uint8 or labels.ndim != 2:
        raise MessError(
            f"The mask {path} has an array of {labels.dtype} in {labels.ndim}"
            " dimensions; expected uint8 in 2 (SBD's GTcls.Segmentation). Replace it."
        )
    return np.ascontiguousarray(labels)

"""Reads image and mask files; whatever is wrong with one is reported in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from mess_tf.core.errors import MessError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")

_COLOUR_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
_LABEL_MODES = ("1", "L", "P")
_EXIF_ORIENTATION = 0x0112

# Pillow reports a broken PNG as SyntaxError, a broken EXIF block as struct.error (a
# ValueError there) and an absurd size as DecompressionBombError.
_UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


def read_image(path: Path) -> np.ndarray:
    """Decodes a photograph as a viewer would show it (EXIF rotation applied).

    Grey, palette and CMYK images become RGB; transparency is dropped.

    Returns:
        uint8 array of shape (h, w, 3), RGB.

    Raises:
        MessError: the file is missing, broken, cut off or deeper than 8 bits.
    """
    try:
        with Image.open(path) as file:
            _check_depth(file, path)
            image = ImageOps.exif_transpose(file)
            if image.mode in ("P", "PA"):
                # Pillow warns when a palette with transparency becomes RGB directly.
                image = image.convert("RGBA")
            return np.array(image.convert("RGB"))
    except _UNREADABLE as error:
        raise _unreadable("image", path, error) from error


def read_labels(path: Path) -> np.ndarray:
    """Decodes a mask of label ids: an 8-bit grey or palette PNG.

    Returns:
        uint8 array of shape (h, w): the ids as stored.

    Raises:
        MessError: the file is missing, broken, cut off, or holds colours and not ids.
    """
    try:
        with Image.open(path) as file:
            if file.mode not in _LABEL_MODES:
                raise MessError(
                    f"The mask {path} has pixels of type {file.mode!r}; expected 8-bit"
                    " label ids (a grey or palette PNG, one id per pixel)."
                )
            labels = np.array(file, dtype=np.uint8)
            if file.mode == "L" and file.format == "PNG":
                labels = _undo_grey_scaling(labels, path)
            return labels
    except _UNREADABLE as error:
        raise _unreadable("mask", path, error) from error


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) as shown, from the header alone.

    Raises:
        MessError: the file is missing, no image, or deeper than 8 bits.
    """
    try:
        with Image.open(path) as file:
            _check_depth(file, path)
            width, height = file.size
            turned = file.getexif().get(_EXIF_ORIENTATION, 1) in (5, 6, 7, 8)
    except _UNREADABLE as error:
        raise _unreadable("image", path, error) from error
    return (width, height) if turned else (height, width)


def looks_complete(path: Path) -> bool:
    """Whether a JPEG or PNG file ends with its end mark (files cut off do not).

    False is no proof: some cameras append data. Such a file has to be decoded whole.
    """
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 64))
            tail = file.read()
    except OSError as error:
        raise _unreadable("image", path, error) from error
    return b"\xff\xd9" in tail or b"IEND" in tail


def _check_depth(file: Image.Image, path: Path) -> None:
    if file.mode not in _COLOUR_MODES:
        raise MessError(
            f"The image {path} has pixels of type {file.mode!r}; expected 8-bit grey or"
            " colour. Convert it to 8-bit RGB."
        )


def _undo_grey_scaling(labels: np.ndarray, path: Path) -> np.ndarray:
    """Pillow stretches 2- and 4-bit grey to 0..255; ids must come back as stored."""
    with path.open("rb") as file:
        bit_depth = file.read(25)[24]
    return labels // (255 // (2**bit_depth - 1)) if bit_depth in (2, 4) else labels


def _unreadable(what: str, path: Path, error: BaseException) -> MessError:
    if isinstance(error, FileNotFoundError):
        return MessError(f"There is no {what} {path}.")
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return MessError(
        f"The {what} {path} cannot be read ({reason}); it may be broken or cut off."
        " Replace the file, or remove it from the data set."
    )

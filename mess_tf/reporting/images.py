"""Pictures for the page and the figures: class maps, confidence maps, photographs."""

from __future__ import annotations

import base64
import io

import numpy as np

SURE_FROM, SURE_TO = 0.3, 1.0
"""Probabilities at the ends of the confidence maps' colours; less is drawn alike."""

_VOID = (40, 40, 40)
_STEPS = 48


def coloured(classes: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Class ids uint8 (h, w) as colours uint8 (h, w, 3); ids without class are dark.

    Args:
        palette: uint8 array of shape (classes, 3).
    """
    return _full(palette)[classes]


def over(picture: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Half picture, half colours: both uint8 (h, w, 3)."""
    import cv2

    if colours.shape != picture.shape:
        height, width = picture.shape[:2]
        colours = cv2.resize(colours, (width, height), interpolation=cv2.INTER_NEAREST)
    grey = picture.mean(axis=2, keepdims=True)
    return (0.35 * grey + 0.1 * picture + 0.55 * colours).astype(np.uint8)


def photo_uri(picture: np.ndarray) -> str:
    """uint8 (h, w, 3) as text for ``href``: JPEG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=82)
    return _uri("jpeg", buffer)


def classes_uri(classes: np.ndarray, palette: np.ndarray) -> str:
    """Class ids uint8 (h, w) as text for ``href``: PNG with the palette."""
    return _indexed(classes, _full(palette))


def sure_uri(sure: np.ndarray) -> str:
    """Probabilities float32 (h, w) as text for ``href``: PNG, purple is sure."""
    import matplotlib

    share = np.clip((sure - SURE_FROM) / (SURE_TO - SURE_FROM), 0, 1)
    colours = matplotlib.colormaps["plasma_r"](np.linspace(0, 1, _STEPS))[:, :3]
    steps = np.round(share * (_STEPS - 1)).astype(np.uint8)
    return _indexed(steps, np.round(255 * colours).astype(np.uint8))


def sure_colours(count: int = 6) -> list[str]:
    """Colours of the confidence maps from unsure to sure, as CSS text."""
    import matplotlib

    colours = matplotlib.colormaps["plasma_r"](np.linspace(0, 1, count))[:, :3]
    return [css_colour(np.round(255 * colour)) for colour in colours]


def css_colour(colour: np.ndarray) -> str:
    """RGB in 0..255 as CSS text."""
    return "#" + "".join(f"{int(value):02x}" for value in colour)


def _full(palette: np.ndarray) -> np.ndarray:
    full = np.full((256, 3), _VOID, np.uint8)
    full[: len(palette)] = palette
    return full


def _indexed(values: np.ndarray, palette: np.ndarray) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    image = Image.fromarray(values)
    image.putpalette(palette.tobytes())
    image.save(buffer, "PNG", optimize=True)
    return _uri("png", buffer)


def _uri(kind: str, buffer: io.BytesIO) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"

"""Logits as class-major rows and as grids: what policies in ``keras.ops`` share."""

from __future__ import annotations

from typing import Any


def shared_classes_ops(logits: Any) -> tuple[Any, Any]:
    """Number of maximal classes that each cell shares with the next row and column.

    Returns:
        (B, h - 1, w) and (B, h, w - 1); below 0.5 where the label changes.
    """
    from keras import ops

    _, height, width, classes = logits.shape
    # A one-hot map of the maxima instead of argmax, which LiteRT's converter lacks for
    # keras.ops.
    rows = class_rows(logits)
    top = ops.cast(rows >= ops.max(rows, axis=1, keepdims=True), "float32")
    grid = ops.reshape(top, (-1, classes, height, width))
    return (
        ops.sum(grid[:, :, 1:] * grid[:, :, :-1], axis=1),
        ops.sum(grid[:, :, :, 1:] * grid[:, :, :, :-1], axis=1),
    )


def class_rows(logits: Any) -> Any:
    """(B, h, w, C) -> (B, C, h * w).

    Reducing over long rows is what LiteRT's kernels do fast: a softmax over the last
    axis of a 60x80x11 map takes 3.6 times as long there.
    """
    from keras import ops

    _, height, width, classes = logits.shape
    flat = ops.reshape(logits, (-1, height * width, classes))
    return ops.transpose(flat, (0, 2, 1))


def on_grid(cells: Any, logits: Any) -> Any:
    """(B, h * w) -> (B, h, w)."""
    from keras import ops

    return ops.reshape(cells, (-1, logits.shape[1], logits.shape[2]))

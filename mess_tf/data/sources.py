"""What a data set is to the rest of the project, and how one is opened by kind.

A source gives random access to samples at native size. Another layout is one more
function that returns a ``Source``, one more row in ``OPENERS`` and one more word in
``mess_tf.recipe.sections.DATA_KINDS``.
"""

from __future__ import annotations

import colorsys
import importlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from mess_tf.core.errors import MessError, UsageError

IGNORE_LABEL = 255
"""In memory, the label that counts nowhere, whatever a data set's files use."""

DEFAULT_BLOCKS = 8
BY_IMAGE = "image"
"""As a group pattern: every image shows a scene of its own."""

OPENERS = {
    "folder": "mess_tf.data.folder:open_folder",
    "drawn": "mess_tf.data.drawn:open_drawn",
    "voc": "mess_tf.data.voc:open_voc",
    "coco": "mess_tf.data.coco:open_coco",
    "cityscapes": "mess_tf.data.cityscapes:open_cityscapes",
    "ade20k": "mess_tf.data.ade20k:open_ade20k",
}
"""Recipe's ``data.kind`` -> ``module:function``, called as f(split, **options)."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One image with its labels.

    Attributes:
        image: uint8 array of shape (h, w, 3), RGB.
        labels: uint8 array of shape (h, w): class ids, or ``IGNORE_LABEL``.
    """

    image: np.ndarray
    labels: np.ndarray


class Source(Protocol):
    """Samples by index, at their native size; picklable, safe to use in threads.

    Attributes:
        names: one per sample, unique, sorted.
        groups: per sample, what it must not be torn from (a video sequence, a scene).
        classes: names, in label order.
        ignore_label: label in ``Sample.labels`` that counts nowhere.
        palette: uint8 array of shape (classes, 3): a colour per class, RGB.
    """

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def groups(self) -> tuple[str, ...]: ...

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def ignore_label(self) -> int: ...

    @property
    def palette(self) -> np.ndarray: ...

    def __len__(self) -> int: ...

    def load(self, index: int) -> Sample:
        """Reads or draws one sample.

        Raises:
            MessError: it cannot be read; the message names the file.
        """
        ...


def open_source(kind: str, split: str, **options: Any) -> Source:
    """Opens one split of a data set.

    Args:
        kind: a key of ``OPENERS``.
        split: e.g. ``train`` or ``val``.
        **options: of the kind: see its function in ``OPENERS``.

    Raises:
        UsageError: unknown kind.
        MessError: the data set cannot be used; the message names the file.
    """
    if kind not in OPENERS:
        raise UsageError(
            f"Data kind {kind!r} is unknown; accepted: {', '.join(sorted(OPENERS))}."
        )
    module, function = OPENERS[kind].split(":")
    source: Source = getattr(importlib.import_module(module), function)(
        split, **options
    )
    return source


# --- Selections and unions ----------------------------------------------------------


class Selection:
    """Some samples of a source, in the order given."""

    def __init__(self, source: Source, indices: Sequence[int]) -> None:
        self._source = source
        self._indices = tuple(int(i) for i in indices)
        self.names = tuple(source.names[i] for i in self._indices)
        self.groups = tuple(source.groups[i] for i in self._indices)
        self.classes = source.classes
        self.ignore_label = source.ignore_label
        self.palette = source.palette

    def __len__(self) -> int:
        return len(self._indices)

    def load(self, index: int) -> Sample:
        return self._source.load(self._indices[index])


class Joined:
    """Several sources of the same classes, one after the other.

    Raises:
        MessError: no sources, other classes, or a name that occurs twice.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        if not sources:
            raise MessError("There is nothing to join: no source was given.")
        self._places = [(s, i) for s in sources for i in range(len(s))]
        self.names = tuple(name for s in sources for name in s.names)
        self.groups = tuple(group for s in sources for group in s.groups)
        self.classes = sources[0].classes
        self.ignore_label = sources[0].ignore_label
        self.palette = sources[0].palette
        for source in sources[1:]:
            if source.classes != self.classes:
                raise MessError(
                    f"Sources with other classes cannot be joined: {self.classes} and"
                    f" {source.classes}."
                )
        name, count = Counter(self.names).most_common(1)[0]
        if count > 1:
            raise MessError(
                f"The image name {name!r} occurs in two splits; names must be unique."
            )

    def __len__(self) -> int:
        return len(self._places)

    def load(self, index: int) -> Sample:
        source, i = self._places[index]
        return source.load(i)


# --- Groups and colours -------------------------------------------------------------


def group_names(
    names: Sequence[str], pattern: str, prefix: str, blocks: int = DEFAULT_BLOCKS
) -> tuple[str, ...]:
    """The group of every name.

    Args:
        names: of the samples, sorted.
        pattern: regular expression searched in a name; its first group (or the whole
            match) is the sample's group. ``BY_IMAGE``: every sample is a group of its
            own. Empty: ``blocks`` contiguous blocks.
        prefix: of the blocks' names; the split, so that splits do not share groups.
        blocks: how many, at most one per sample.

    Raises:
        UsageError: the pattern is no regular expression, or a name does not match.
    """
    if pattern == BY_IMAGE:
        return tuple(f"{prefix}/{name}" for name in names)
    if not pattern:
        count = min(blocks, len(names))
        return tuple(
            f"{prefix}_block{i * count // len(names) + 1}" for i in range(len(names))
        )
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UsageError(
            f"The group pattern {pattern!r} is no regular expression: {error}."
        ) from error
    groups = []
    for name in names:
        match = expression.search(name)
        if match is None:
            raise UsageError(
                f"The group pattern {pattern!r} does not match the image name {name!r};"
                " every image needs a group. 'image' makes each a group of its own, an"
                " empty pattern contiguous blocks."
            )
        group = match.group(1) if expression.groups else match.group(0)
        groups.append(group or "")
    return tuple(groups)


def default_palette(classes: int) -> np.ndarray:
    """Colours that differ well in hue and lightness, always the same ones.

    Returns:
        uint8 array of shape (classes, 3), RGB.
    """
    colours = []
    for k in range(classes):
        # The golden ratio spreads hues evenly for any number of classes.
        hue = (0.58 + k * 0.61803398875) % 1.0
        colours.append(colorsys.hls_to_rgb(hue, (0.45, 0.62, 0.32)[k % 3], 0.75))
    return np.round(np.array(colours).reshape(-1, 3) * 255).astype(np.uint8)

"""Makes batches, in numpy alone: which samples, how varied, in which arrays.

A batch depends only on (seed, epoch, number of the batch). It is the same whoever makes
it: this thread, another one or another process, in a run of one go or a resumed one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mess_tf.core.errors import MessError
from mess_tf.core.supernet_spec import Preprocessing
from mess_tf.data.augment import Augmentation, Warp, warp_image, warp_labels
from mess_tf.data.sources import Source

# Purposes of random numbers; different keys make independent streams.
_ORDER = 0
_SAMPLE = 1


@dataclass(frozen=True, eq=False)
class BatchMaker:
    """Batches of a source: for training with ``augmentation``, for evaluation without.

    Training shuffles every epoch anew and drops what does not fill the last batch.
    Evaluation takes whole images in the order of ``indices``; its last batch may be
    smaller.

    Attributes:
        source: of the samples; wrap it in ``cache.Cached`` to decode only once.
        indices: samples of the source that take part.
        batch: samples per batch.
        height, width: of the network's input.
        preprocessing: of the network.
        augmentation: how samples are varied; None for evaluation.
        label_stride: pixels of the crop per cell of the label grid.
        seed: of order and augmentation.

    Raises:
        MessError: nothing to make batches of, or sizes that do not fit.
    """

    source: Source
    indices: Sequence[int]
    batch: int
    height: int
    width: int
    preprocessing: Preprocessing
    augmentation: Augmentation | None = None
    label_stride: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise MessError(f"The batch size is {self.batch}; it must be 1 or more.")
        if not len(self):
            raise MessError(
                f"{len(self.indices)} samples do not fill one batch of {self.batch};"
                " use a smaller batch or more images."
            )
        if any(side % self.label_stride for side in self.crop_size):
            raise MessError(
                f"Crops of {self.crop_size[0]}x{self.crop_size[1]} pixels cannot be"
                f" divided into label cells of {self.label_stride}; choose sizes that"
                " are multiples of it."
            )

    def __len__(self) -> int:
        """Batches per epoch."""
        if self.augmentation is None:
            return math.ceil(len(self.indices) / self.batch)
        return len(self.indices) // self.batch

    @cached_property
    def crop_size(self) -> tuple[int, int]:
        """(height, width) of the images in a batch."""
        if self.augmentation is None:
            return self.height, self.width
        return self.augmentation.crop_size(self.height, self.width)

    def samples(self, epoch: int, number: int) -> tuple[int, ...]:
        """Indices into the source of batch ``number`` (0-based) of an epoch."""
        order = np.asarray(self.indices)
        if self.augmentation is not None:
            order = order[self._rng(_ORDER, epoch).permutation(len(order))]
        chosen = order[number * self.batch : (number + 1) * self.batch]
        return tuple(int(i) for i in chosen)

    def make(self, epoch: int, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Makes one batch.

        Returns:
            images: float32 array of shape (B, *crop_size, 3), network input.
            labels: int32 array of shape (B, crop height / label_stride, crop width /
                label_stride); ``IGNORE_LABEL`` where no loss is wanted.

        Raises:
            MessError: a sample cannot be read; the message names the file.
        """
        chosen = self.samples(epoch, number)
        height, width = self.crop_size
        images = np.empty((len(chosen), height, width, 3), np.float32)
        stride = self.label_stride
        labels = np.empty((len(chosen), height // stride, width // stride), np.int32)
        for place, index in enumerate(chosen):
            try:
                self._fill(epoch, index, images[place], labels[place])
            except Exception as error:
                # Not a reason to hide it: the trace gets the one fact it lacks.
                error.add_note(f"while preparing {self.source.names[index]!r}")
                raise
        return images, labels

    def _fill(
        self, epoch: int, index: int, image: np.ndarray, labels: np.ndarray
    ) -> None:
        """Fills the arrays of one sample."""
        sample = self.source.load(index)
        warp, colours = Warp.whole(self.height, self.width), None
        if self.augmentation is not None:
            rng = self._rng(_SAMPLE, epoch, index)
            warp = self.augmentation.draw(rng, self.height, self.width)
            colours = self.augmentation.draw_colours(rng)
        warp_image(sample.image, warp, self.preprocessing, image, colours)
        labels[...] = warp_labels(sample.labels, warp, self.label_stride)

    def _rng(self, *key: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=key))

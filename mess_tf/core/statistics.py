"""Per-image statistics of every head: areas, intersections and confidences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mess_tf.core.errors import MessError
from mess_tf.core.files import UNREADABLE, write_atomically

STATISTICS_SCHEMA = 1
"""Version of ``statistics/PRECISION.npz``."""

_PARAMETERS = "parameters_"  # before a policy family's name in the file


@dataclass(frozen=True, eq=False)
class Statistics:
    """What every head does on every image; the raw material of the search.

    Attributes:
        images: names, I of them.
        groups: per image, the sequence or scene it comes from.
        parts: per image ``calibration`` or ``report``; the search sees the first only.
        heads: (exit index, head id), H of them, as ``SupernetSpec.head_names``.
        true_area: int64 array of shape (I, C): pixels labelled c (ignored ones left
        out). predicted_area: int64 array of shape (I, H, C): valid pixels predicted as
        c. intersection: int64 array of shape (I, H, C): both.
        confidence: per policy key (``mean``, ``eq7@0.9``, ``eq7+9@0.9``) a float32
            array of shape (I, H), in 0..1, NaN where the policy was not evaluated:
            ``region_k`` is about heads of one exit alone.
        source: what was measured, e.g. ``pieces:int8`` or ``keras``.
        parameters: per fitted policy family (``cbt``, ``gate``) a float32 array of
            shape (H, P), the numbers that its confidences were computed with.

    A data set's IoU of class c is sum(intersection) / sum(true + predicted -
    intersection), summed over images: never an average of per-image figures.
    """

    images: tuple[str, ...]
    groups: tuple[str, ...]
    parts: tuple[str, ...]
    heads: tuple[tuple[int, str], ...]
    classes: tuple[str, ...]
    true_area: np.ndarray
    predicted_area: np.ndarray
    intersection: np.ndarray
    confidence: Mapping[str, np.ndarray]
    source: str
    parameters: Mapping[str, np.ndarray] = field(default_factory=dict)
    schema: int = STATISTICS_SCHEMA

    def parameters_of(self, policy: str, head: int) -> tuple[float, ...]:
        """A policy key's numbers at a head (its index); empty where it has none."""
        fitted = self.parameters.get(policy.split("@")[0])
        return () if fitted is None else tuple(fitted[head].tolist())

    def save(self, path: Path) -> None:
        """Writes one ``.npz``; no pickles inside."""
        arrays: dict[str, Any] = {
            "schema": np.int64(self.schema),
            "images": np.array(self.images),
            "groups": np.array(self.groups),
            "parts": np.array(self.parts),
            "head_exits": np.array([e for e, _ in self.heads], np.int64),
            "head_ids": np.array([h for _, h in self.heads]),
            "classes": np.array(self.classes),
            "source": np.array(self.source),
            "true_area": self.true_area,
            "predicted_area": self.predicted_area,
            "intersection": self.intersection,
            "policies": np.array(list(self.confidence)),
            "confidence": np.stack(list(self.confidence.values())),
        }
        for family, values in self.parameters.items():
            arrays[f"{_PARAMETERS}{family}"] = values
        with write_atomically(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)

    @classmethod
    def load(cls, path: Path) -> Statistics:
        if not path.is_file():
            which = (
                f"--precision {path.stem}" if path.stem != "keras" else "--from keras"
            )
            raise MessError(
                f"No statistics at {path}. Run `mess evaluate {path.parent.parent}"
                f" {which}` first."
            )
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as z:
                policies = z["policies"].tolist()
                return cls(
                    images=tuple(z["images"].tolist()),
                    groups=tuple(z["groups"].tolist()),
                    parts=tuple(z["parts"].tolist()),
                    heads=tuple(
                        zip(
                            z["head_exits"].tolist(),
                            z["head_ids"].tolist(),
                            strict=True,
                        )
                    ),
                    classes=tuple(z["classes"].tolist()),
                    true_area=z["true_area"],
                    predicted_area=z["predicted_area"],
                    intersection=z["intersection"],
                    confidence=dict(zip(policies, z["confidence"], strict=True)),
                    source=str(z["source"]),
                    parameters={
                        name.removeprefix(_PARAMETERS): z[name]
                        for name in z.files
                        if name.startswith(_PARAMETERS)
                    },
                    schema=int(z["schema"]),
                )
        except UNREADABLE as error:
            raise MessError(
                f"The statistics file {path} cannot be read ({error}); delete it and"
                " run `mess evaluate` again."
            ) from error


def part_images(statistics: Statistics, part: str | None = None) -> np.ndarray:
    """Indices of the images of a part, int64 array; of all images for None."""
    if part is None:
        return np.arange(len(statistics.images))
    return np.flatnonzero(np.array(statistics.parts) == part)

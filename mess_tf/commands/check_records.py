"""Records of ``check.json``: what an export promised, and what it did on a device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

CHECK_SCHEMA = 1
"""Version of ``check.json``."""


@dataclass(frozen=True)
class CheckedPart:
    """Promised and measured figures over the images of one part.

    Attributes:
        promised_ms, measured_ms: mean latency per image.
        promised_at_present_speed_ms: the promise times ``slower_than_profiled``.
        measured_p90_ms: 90th percentile of the latency per image.
        promised_exit_rates, measured_exit_rates: per exit of the configuration, 0..1.
        promised_miou, measured_miou: of the data set, 0..1.
    """

    promised_ms: float
    promised_at_present_speed_ms: float
    measured_ms: float
    measured_p90_ms: float
    promised_exit_rates: tuple[float, ...]
    measured_exit_rates: tuple[float, ...]
    promised_miou: float
    measured_miou: float


@dataclass(frozen=True)
class CheckedDeadline:
    """Promised and measured figures by one deadline, over the images of one part.

    Attributes:
        deadline_ms, weight: as asked.
        exit: exit index whose answer is promised by then; None where none is.
        promised_ready_ms, measured_ready_ms: until that exit's answer; the second is
            the mean over the images. None without a promised exit.
        measured_ready_p90_ms: 90th percentile over the images; None likewise.
        in_time: share of the images whose promised answer was there by the deadline,
            0..1; None likewise.
        promised_miou, measured_miou: of the data set, 0..1. Measured with each image's
            last answer that was there by the deadline; where there was none, nothing
            counts as predicted.
    """

    deadline_ms: float
    weight: float
    exit: int | None
    promised_ready_ms: float | None
    measured_ready_ms: float | None
    measured_ready_p90_ms: float | None
    in_time: float | None
    promised_miou: float
    measured_miou: float


@dataclass(frozen=True, kw_only=True)
class AnytimeCheckFile:
    """Contents of ``check.json`` of an export for deadlines.

    Attributes:
        setting: tells it from other checks.
        name: of the export.
        images: number of images.
        slower_than_profiled: as in ``CheckFile``; deadlines are not corrected by it.
        exits: exit indices, in order of depth; all answer.
        parts: per part of the images, a row per deadline.
    """

    schema: int = CHECK_SCHEMA
    setting: Literal["anytime"] = "anytime"
    name: str
    device: str
    threads: int
    images: int
    slower_than_profiled: float
    exits: tuple[int, ...]
    parts: Mapping[str, tuple[CheckedDeadline, ...]]


@dataclass(frozen=True, kw_only=True)
class CheckFile:
    """Contents of ``check.json``.

    Attributes:
        name: of the export.
        images: number of images.
        images_with_other_exit: of these, left elsewhere than the statistics say.
        slower_than_profiled: present latency of the final network in one file over its
            profiled latency.
        exits: exit indices of the configuration.
        parts: figures of ``calibration`` and ``report``, where they have images.
        taken: per image, the exit index at which it left.
        image_names: of the images, in the same order.
    """

    schema: int = CHECK_SCHEMA
    name: str
    device: str
    threads: int
    images: int
    images_with_other_exit: int
    slower_than_profiled: float
    exits: tuple[int, ...]
    parts: Mapping[str, CheckedPart]
    taken: tuple[int, ...]
    image_names: tuple[str, ...]

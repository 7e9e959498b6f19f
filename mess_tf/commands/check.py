"""``mess check``."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from android_bench.device import Device
from android_bench.devices import open_device
from android_bench.errors import BenchError
from android_bench.records import Failure, MeasureSettings, ModelFile
from mess_tf.commands.arguments import as_tuple, next_command
from mess_tf.commands.check_anytime import check_deadlines
from mess_tf.commands.check_records import AnytimeCheckFile, CheckedPart, CheckFile
from mess_tf.commands.latencies import measured_latencies, network_input, tensor_of
from mess_tf.commands.on_device import (
    PASSES,
    answers_on_device,
    anytime_answers_on_device,
)
from mess_tf.core.configuration import Configuration
from mess_tf.core.errors import MessError
from mess_tf.core.files import sha256_of
from mess_tf.core.json_files import from_json, read_json, to_json, write_record
from mess_tf.core.piece_names import WHOLE_PROBE
from mess_tf.core.pieces import Pieces
from mess_tf.core.quantiles import quantile
from mess_tf.core.routing import exit_position_per_image
from mess_tf.core.segmentation_metrics import Areas, count_areas, mean_iou
from mess_tf.core.statistics import Statistics
from mess_tf.core.supernet_spec import SupernetSpec
from mess_tf.data.dataset import Dataset, open_dataset
from mess_tf.evaluation.predict import class_map
from mess_tf.runs import Run
from mess_tf.terminal.progress import progress
from search.anytime import AnytimeResult

_OF_A_CARD = ("files", "precision", "input", "promise")


def check(
    run: str | Path,
    *,
    name: str | Sequence[str] = (),
    device: str | None = None,
    threads: int | None = None,
) -> dict[str, Any]:
    """Runs exported files on the device and compares promised with measured.

    Compares what the search promised with what the file does: exit per image, exit
    rates, mean latency and mIoU, on both parts; for deadlines, when each promised
    answer was there, for how many images in time, and the mIoU by each deadline. Since
    a device's speed drifts between sessions, the final network in one file, which was
    profiled too, is measured again before and after: the promise *at the present speed*
    is corrected by that ratio.

    Args:
        run: the run folder.
        name: name of an export; may be repeated (default: all).
        device: device to use, e.g. host (default: the recipe's).
        threads: CPU threads (default: the recipe's).

    Returns:
        ``run`` and ``checks``, each as stored in ``check.json``.

    Raises:
        MessError: no such export, or a file that is not the one on its card.
        BenchError: the device cannot be used.
    """
    opened = Run.open(run)
    folders = {folder.name: folder for folder in opened.exports()}
    names = as_tuple(name)
    for wanted in names:
        if wanted not in folders:
            raise MessError(
                f"No export named {wanted!r} in {run}; there are"
                f" {', '.join(folders) or 'none'}. Run `mess export {run}` first."
            )
    if not folders:
        raise MessError(f"Nothing is exported in {run}. Run `mess export {run}` first.")
    data = open_dataset(opened.recipe.data)
    checks = []
    for wanted in names or folders:
        checked = _check_one(opened, folders[wanted], data, device, threads)
        write_record(folders[wanted] / "check.json", checked)
        checks.append(to_json(checked))
    return {"run": str(run), "checks": checks, "next": next_command("report", run)}


def _read_card(path: Path) -> dict[str, Any]:
    card: dict[str, Any] = read_json(path, "card", "mess export")
    missing = [key for key in _OF_A_CARD if key not in card]
    if missing:
        raise MessError(
            f"The card {path} lacks {', '.join(missing)}; run `mess export` again."
        )
    return card


def _check_one(
    run: Run,
    folder: Path,
    data: Dataset,
    device: str | None,
    threads: int | None,
) -> CheckFile | AnytimeCheckFile:
    card = _read_card(folder / "card.json")
    for name, digest in card["files"].items():
        path = folder / name
        if not path.is_file() or sha256_of(path) != digest:
            raise MessError(
                f"{path} is not the file its card describes; run `mess export` again."
            )
    where = device or run.recipe.profile.device
    count = threads or run.recipe.profile.threads
    spec = SupernetSpec.load(run.supernet_structure)
    session = _Session(run, folder, card, spec, where, count)
    if card.get("anytime") is not None:
        return _check_deadlines(session, data)
    return _check_routing(session, data)


@dataclass(frozen=True, eq=False)
class _Session:
    """An export and the device that it is checked on.

    Attributes:
        folder, card: of the export.
        spec: of the supernet.
        device, threads: where and how it runs.
    """

    run: Run
    folder: Path
    card: dict[str, Any]
    spec: SupernetSpec
    device: str
    threads: int

    def measure(
        self, data: Dataset, follow: Callable[..., tuple[np.ndarray, list[Any]]]
    ) -> tuple[np.ndarray, list[Any], float]:
        """Runs the export over all images.

        Args:
            data: the images.
            follow: ``answers_on_device`` or ``anytime_answers_on_device``.

        Returns:
            What ``follow`` returns, and the present latency of the final network in one
            file over its profiled latency.
        """
        precision, image_input = self.card["precision"], tensor_of(self.card["input"])
        promised = measured_latencies(
            self.run, precision, self.device, self.threads, unmeasured_heads="leave out"
        )
        pieces = Pieces.load(self.run.pieces(precision))
        whole = ModelFile.read(pieces.path(WHOLE_PROBE), WHOLE_PROBE)
        settings = MeasureSettings.preset("quick", self.threads)
        total = (1 + PASSES) * len(data.evaluation)
        images = []
        with progress(f"Checking {self.folder.name}", total) as step:
            for index in range(len(data.evaluation)):
                image = data.evaluation.load(index).image
                images.append(
                    network_input(image, image_input, self.spec.preprocessing)
                )
                step()
            with open_device(self.device) as reached:
                before = _whole_ms(reached, whole, settings)
                latency_ms, answers = follow(
                    self.folder, self.card, images, reached, self.threads, step=step
                )
                after = _whole_ms(reached, whole, settings)
        return latency_ms, answers, (before + after) / 2 / promised.whole_ms


def _check_routing(session: _Session, data: Dataset) -> CheckFile:
    """Checks an export that answers once per image."""
    card = session.card
    configuration = Configuration.from_json(card["promise"]["configuration"])
    statistics = Statistics.load(session.run.statistics(card["precision"]))
    latency_ms, answers, drift = session.measure(data, answers_on_device)
    taken = np.array([answer.exit for answer in answers])
    position = exit_position_per_image(statistics, configuration)
    exits = tuple(choice.exit for choice in configuration.exits)
    expected = np.array(exits)[position]
    parts = {
        part: _checked_part(
            promised,
            exits,
            latency_ms[chosen],
            taken[chosen],
            drift,
            _miou(data, session.spec, chosen, answers),
        )
        for part, chosen in _parts(data)
        if (promised := card["promise"][part]) is not None
    }
    return CheckFile(
        name=session.folder.name,
        device=session.device,
        threads=session.threads,
        images=len(taken),
        images_with_other_exit=int((taken != expected).sum()),
        slower_than_profiled=drift,
        exits=exits,
        parts=parts,
        taken=tuple(int(exit_index) for exit_index in taken),
        image_names=tuple(data.evaluation.names),
    )


def _check_deadlines(session: _Session, data: Dataset) -> AnytimeCheckFile:
    """Checks an export whose exits answer one after the other."""
    path = session.folder / "card.json"
    promised = from_json(session.card["anytime"], AnytimeResult, f"The card {path}")
    ready_ms, answers, drift = session.measure(data, anytime_answers_on_device)

    @functools.cache
    def areas_of(image: int, position: int) -> Areas:
        labels = data.evaluation.load(image).labels
        if position >= 0:
            answer = answers[position][image]
            predicted = class_map(answer.logits, answer.classes, *labels.shape)
            return count_areas(labels, predicted, len(session.spec.classes))
        true = count_areas(labels, np.zeros_like(labels), len(session.spec.classes))
        nothing = np.zeros_like(true.predicted)
        return Areas(true.true, nothing, nothing)

    return AnytimeCheckFile(
        name=session.folder.name,
        device=session.device,
        threads=session.threads,
        images=len(data.evaluation),
        slower_than_profiled=drift,
        exits=tuple(one.exit for one in promised.exits),
        parts={
            part: check_deadlines(promised, part, ready_ms, chosen, areas_of)
            for part, chosen in _parts(data)
        },
    )


def _parts(data: Dataset) -> Iterator[tuple[str, list[int]]]:
    """The parts that have images, with these."""
    for part in ("calibration", "report"):
        chosen = [i for i, p in enumerate(data.parts) if p == part]
        if chosen:
            yield part, chosen


def _whole_ms(reached: Device, whole: ModelFile, settings: MeasureSettings) -> float:
    """Present latency of the final network in one file: median of rounds, ms."""
    medians_us = []
    for _ in range(settings.rounds):
        for _, outcome in reached.benchmark([whole], settings):
            if isinstance(outcome, Failure):
                raise BenchError(
                    f"{whole.path} cannot be measured: it failed at stage"
                    f" {outcome.stage!r} ({outcome.message})."
                )
            medians_us.append(outcome.median_us)
    return float(np.median(medians_us)) / 1000


def _checked_part(
    promised: dict[str, Any],
    exits: Sequence[int],
    latency_ms: np.ndarray,
    taken: np.ndarray,
    slower: float,
    measured_miou: float,
) -> CheckedPart:
    """Promised and measured figures of one part.

    Args:
        promised: the part's figures on the card.
        exits: exit indices of the configuration.
        latency_ms: measured, of the part's images, float array of shape (I,).
        taken: exit index at which each of them left, int array of shape (I,).
        slower: present latency of the final network over the profiled one.
        measured_miou: of the answers, 0..1.
    """
    return CheckedPart(
        promised_ms=promised["mean_ms"],
        promised_at_present_speed_ms=promised["mean_ms"] * slower,
        measured_ms=float(latency_ms.mean()),
        measured_p90_ms=quantile(latency_ms, 0.9),
        promised_exit_rates=tuple(promised["exit_rates"]),
        measured_exit_rates=tuple(float((taken == exit_).mean()) for exit_ in exits),
        promised_miou=promised["miou"],
        measured_miou=measured_miou,
    )


def _miou(
    data: Dataset, spec: SupernetSpec, chosen: list[int], answers: list[Any]
) -> float:
    total: Areas | None = None
    for index in chosen:
        labels = data.evaluation.load(index).labels
        answer = answers[index]
        predicted = class_map(answer.logits, answer.classes, *labels.shape)
        areas = count_areas(labels, predicted, len(spec.classes))
        total = areas if total is None else total + areas
    return mean_iou(total) if total is not None else math.nan


def render(result: dict[str, Any]) -> str:
    """Promised against measured, per export and part."""
    lines = []
    for row in result["checks"]:
        if row.get("setting") == "anytime":
            lines += _deadline_lines(row)
            continue
        other = row["images_with_other_exit"]
        lines.append(
            f"{row['name']} on {row['device']}, {_threads(row['threads'])}: every image"
            " left where the search said"
            if not other
            else f"{row['name']}: {other} of {row['images']} images left elsewhere than"
            " the search said"
        )
        for part, figures in row["parts"].items():
            now = figures["promised_at_present_speed_ms"]
            lines += [
                f"  {part}: mean latency promised {figures['promised_ms']:.3f} ms"
                f" ({now:.3f} ms at the device's present speed), measured"
                f" {figures['measured_ms']:.3f} ms"
                f" ({figures['measured_ms'] / figures['promised_ms'] - 1:+.1%};"
                f" {figures['measured_ms'] / now - 1:+.1%} at present speed)",
                f"    exit rates promised {_rates(figures['promised_exit_rates'])},"
                f" measured {_rates(figures['measured_exit_rates'])}",
                f"    mIoU promised {figures['promised_miou']:.2%}, measured"
                f" {figures['measured_miou']:.2%}",
            ]
    return "\n".join(lines)


def _deadline_lines(row: dict[str, Any]) -> list[str]:
    """Promised against measured by each deadline."""
    lines = [
        f"{row['name']} on {row['device']}, {_threads(row['threads'])}: device at"
        f" {row['slower_than_profiled']:.2f} times its profiled latency"
    ]
    for part, deadlines in row["parts"].items():
        for one in deadlines:
            head = f"  {part}, by {one['deadline_ms']:g} ms:"
            if one["exit"] is None:
                lines.append(f"{head} no answer promised")
                continue
            lines.append(
                f"{head} exit {one['exit']} promised at"
                f" {one['promised_ready_ms']:.3f} ms, measured"
                f" {one['measured_ready_ms']:.3f} ms (p90"
                f" {one['measured_ready_p90_ms']:.3f}), in time for"
                f" {one['in_time']:.1%} of the images; mIoU promised"
                f" {one['promised_miou']:.2%}, measured {one['measured_miou']:.2%}"
            )
    return lines


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def _rates(rates: Sequence[float]) -> str:
    return "/".join(f"{rate:.1%}" for rate in rates)

"""Results for deadlines: the answer by each, beside the best single exit for it."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mess_tf.core.files import write_file
from mess_tf.core.json_files import Json, read_json
from mess_tf.runs import Run
from search.anytime import AnytimeResult, DeadlineFigures, ExitFigures
from search.result import load_anytime_results


@dataclass(frozen=True)
class DeadlineRow:
    """The answer by one deadline.

    Attributes:
        exit, head, ready_ms: of the answer; None where none is promised by then.
        miou: of the answers, on ``DeadlineAnswers.part``.
        single_exit, single_head, single_ms, single_miou: of the best single exit for
            this deadline alone; None where there is none.
        measured_ready_ms, in_time, measured_miou: of the check on the same part; None
            without one.
    """

    deadline_ms: float
    weight: float
    exit: int | None
    head: str | None
    ready_ms: float | None
    miou: float | None
    single_exit: int | None
    single_head: str | None
    single_ms: float | None
    single_miou: float | None
    measured_ready_ms: float | None
    in_time: float | None
    measured_miou: float | None

    @property
    def price_pp(self) -> float | None:
        """What answering at the other deadlines costs here: points below the single."""
        if self.miou is None or self.single_miou is None:
            return None
        return 100 * (self.single_miou - self.miou)


@dataclass(frozen=True)
class DeadlineAnswers:
    """One result of the anytime setting.

    Attributes:
        device: name of its folder of search results.
        part: that figures are of: ``report``, or ``calibration`` without one.
        chain: (exit, head, completion in ms) in order of depth.
        weighted_miou: weighted mean over the deadlines, on ``part``.
        export: folder of its file, None where it was not exported.
        command: what to do next: export, check, or None.
    """

    name: str
    device: str
    precision: str
    part: str
    chain: tuple[tuple[int, str, float], ...]
    weighted_miou: float
    rows: tuple[DeadlineRow, ...]
    export: str | None
    command: str | None

    @property
    def checked(self) -> bool:
        return any(row.measured_miou is not None for row in self.rows)


def deadline_answers(run: Run) -> tuple[DeadlineAnswers, ...]:
    """Every result for deadlines in a run, by device and precision.

    Raises:
        MessError: a file is broken.
    """
    found = []
    for path in sorted(run.folder.glob("search/*/*/chosen.json")):
        device, precision = path.parent.parent.name, path.parent.name
        for result in load_anytime_results(path):
            found.append(_answers(run, result, device, precision))
    return tuple(found)


def _answers(
    run: Run, result: AnytimeResult, device: str, precision: str
) -> DeadlineAnswers:
    part = "calibration" if result.weighted_report_miou is None else "report"
    folder = run.export(f"{result.name}_{precision}_progressive")
    exported = (folder / "card.json").is_file()
    check = None
    if exported and (folder / "check.json").is_file():
        check = read_json(folder / "check.json", "check", "mess check")
    measured = [None] * len(result.deadlines)
    if check is not None and part in check["parts"]:
        measured = check["parts"][part]
    command = None
    if not exported:
        words = ["mess", "export", str(run.folder), "--choice", result.name]
        command = shlex.join(words)
    elif check is None:
        words = ["mess", "check", str(run.folder), "--name", folder.name]
        command = shlex.join(words)
    weighted = result.weighted_report_miou
    return DeadlineAnswers(
        name=result.name,
        device=device,
        precision=precision,
        part=part,
        chain=tuple((one.exit, one.head, one.completion_ms) for one in result.exits),
        weighted_miou=result.weighted_calibration_miou
        if weighted is None
        else weighted,
        rows=tuple(
            _row(result, row, part, check_row)
            for row, check_row in zip(result.deadlines, measured, strict=True)
        ),
        export=folder.name if exported else None,
        command=command,
    )


def _row(
    result: AnytimeResult, row: DeadlineFigures, part: str, measured: Json | None
) -> DeadlineRow:
    answer = None if row.position is None else result.exits[row.position]
    single = row.best_single
    measured = measured or {}
    return DeadlineRow(
        deadline_ms=row.deadline_ms,
        weight=row.weight,
        exit=None if answer is None else answer.exit,
        head=None if answer is None else answer.head,
        ready_ms=None if answer is None else answer.completion_ms,
        miou=row.calibration_miou if part == "calibration" else row.report_miou,
        single_exit=None if single is None else single.exit,
        single_head=None if single is None else single.head,
        single_ms=None if single is None else single.completion_ms,
        single_miou=None if single is None else _miou(single, part),
        measured_ready_ms=measured.get("measured_ready_ms"),
        in_time=measured.get("in_time"),
        measured_miou=measured.get("measured_miou"),
    )


def _miou(figures: ExitFigures, part: str) -> float | None:
    return figures.calibration_miou if part == "calibration" else figures.report_miou


def write_deadlines(answers: Sequence[DeadlineAnswers], folder: Path) -> list[Path]:
    """Writes ``deadlines.csv`` where there is something to write.

    Raises:
        MessError: the file cannot be written.
    """
    if not answers:
        return []
    path = folder / "deadlines.csv"
    write_file(path, deadlines_csv(answers).encode())
    return [path]


def deadlines_csv(answers: Iterable[DeadlineAnswers]) -> str:
    """A line per result and deadline, as CSV."""
    columns = list(DeadlineRow.__dataclass_fields__)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", "device", "precision", "part", *columns])
    for one in answers:
        for row in one.rows:
            values = [getattr(row, column) for column in columns]
            writer.writerow([one.name, one.device, one.precision, one.part, *values])
    return text.getvalue()

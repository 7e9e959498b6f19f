"""The files made of a run: precision, form and what is inside, from their cards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mess_tf.core.json_files import Json, read_json
from mess_tf.runs import Run


@dataclass(frozen=True)
class PartCheck:
    """Promise against measurement on one part of the images."""

    part: str
    promised_ms: float
    promised_now_ms: float
    measured_ms: float
    promised_rates: tuple[float, ...]
    measured_rates: tuple[float, ...]
    promised_miou: float
    measured_miou: float


@dataclass(frozen=True)
class ExportedFile:
    """An exported file, and the result of its check.

    Attributes:
        name, model, size_bytes: of the file.
        images, rerouted_images: checked, and of them those that left at another exit
            than promised; None without a check.
        parts: empty without a check.
        check_command: makes the check.
    """

    name: str
    model: str
    size_bytes: int
    float_operators: tuple[str, ...]
    images: int | None
    rerouted_images: int | None
    parts: tuple[PartCheck, ...]
    check_command: str

    @property
    def checked(self) -> bool:
        return self.images is not None


@dataclass(frozen=True)
class ExportRow:
    """A file of ``export/``: its precision and form, from its card and check.

    Attributes:
        inside: types of weights and what is computed in float, ready to print.
        promised_ms, promised_miou: on the part that is reported; of exits that answer
            until a deadline, the last one's.
        measured_ms: on the same images; None without a check.
    """

    name: str
    device: str
    precision: str
    form: str
    input: str
    output: str
    size_bytes: int
    inside: Mapping[str, str]
    promised_ms: float
    promised_miou: float
    measured_ms: float | None


def export_rows(run: Run) -> tuple[ExportRow, ...]:
    """A row per export, by name.

    Raises:
        MessError: a card or check is broken.
    """
    rows = []
    for folder in run.exports():
        card = read_json(folder / "card.json", "card", "mess export")
        check = None
        if (folder / "check.json").is_file():
            check = read_json(folder / "check.json", "check", "mess check")
        if card.get("anytime") is not None:
            promised_ms, promised_miou, measured_ms = _last_deadline(card, check)
        else:
            promised_ms, promised_miou, measured_ms = _one_answer(card, check)
        rows.append(
            ExportRow(
                name=folder.name,
                device=card["latency"]["device"]["name"],
                precision=card["precision"],
                form=_form(card),
                input=f"{card['input']['dtype']} {_size(card['input']['shape'])}",
                output=_output(card["outputs"]),
                size_bytes=card["size_bytes"],
                inside=_inside(card),
                promised_ms=promised_ms,
                promised_miou=promised_miou,
                measured_ms=measured_ms,
            )
        )
    return tuple(rows)


def _one_answer(card: Json, check: Json | None) -> tuple[float, float, float | None]:
    """Promised latency and mIoU of the part that is reported; measured latency."""
    promise = card["promise"]
    part = "calibration" if promise["report"] is None else "report"
    measured = None if check is None else check["parts"].get(part, {})
    measured_ms = None if measured is None else measured.get("measured_ms")
    return promise[part]["mean_ms"], promise[part]["miou"], measured_ms


def _last_deadline(card: Json, check: Json | None) -> tuple[float, float, float | None]:
    """The same of the last exit, where all answer until a deadline."""
    promise = card["anytime"]
    part = "calibration" if promise["weighted_report_miou"] is None else "report"
    last = promise["exits"][-1]
    rows = [] if check is None else check["parts"].get(part, [])
    measured = [row["measured_ready_ms"] for row in rows if row["exit"] == last["exit"]]
    measured_ms = measured[-1] if measured else None
    return last["completion_ms"], last[f"{part}_miou"], measured_ms


def check_parts(check: Json) -> tuple[PartCheck, ...]:
    """The parts of the images in a ``check.json``."""
    return tuple(
        PartCheck(
            part=part,
            promised_ms=row["promised_ms"],
            promised_now_ms=row["promised_at_present_speed_ms"],
            measured_ms=row["measured_ms"],
            promised_rates=tuple(row["promised_exit_rates"]),
            measured_rates=tuple(row["measured_exit_rates"]),
            promised_miou=row["promised_miou"],
            measured_miou=row["measured_miou"],
        )
        for part, row in check["parts"].items()
    )


def _form(card: Json) -> str:
    # Cards of before there were forms are of linked files.
    form = card.get("form", {"form": "linked"})
    extra = [
        text
        for name, text in (
            ("threshold_input", "thresholds as input"),
            ("exit_signatures", "a signature per exit"),
        )
        if form.get(name)
    ]
    return ", ".join([form["form"], *extra])


def _output(outputs: Json) -> str:
    logits = outputs.get("logits")
    kinds = [f"{logits['dtype']} logits {_size(logits['shape'])}"] if logits else []
    if "classes" in outputs:
        kinds.append("uint8 class ids")
    return " and ".join(kinds)


def _size(shape: list[int]) -> str:
    return "×".join(str(n) for n in shape[1:])


def _inside(card: Json) -> dict[str, str]:
    """What the file really holds; the reason beside everything that stays float."""
    inventory = card["inventory"]
    sizes: dict[str, int] = inventory.get("weights", {})
    largest = sorted(sizes.items(), key=lambda item: -item[1])
    weights = ", ".join(f"{kind} {_bytes(size)}" for kind, size in largest)
    contents = {"weights": weights or "none"}
    if "in_float" in card:
        by_reason: dict[str, list[str]] = {}
        for row in card["in_float"]:
            by_reason.setdefault(row["reason"], []).append(row["operator"].lower())
        contents |= {", ".join(names): reason for reason, names in by_reason.items()}
    elif inventory["float_operators"]:
        names = ", ".join(name.lower() for name in inventory["float_operators"])
        contents[names] = card.get("float_reason", "computed in float")
    return contents


def _bytes(size: int) -> str:
    if size < 1000:
        return f"{size} bytes"
    return f"{size / 1e6:.2f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"

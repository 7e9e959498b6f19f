"""``mess export``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from mess_tf.commands.arguments import as_tuple, check_choice, next_command
from mess_tf.commands.card_records import CardFile
from mess_tf.commands.cards import Source, make_card
from mess_tf.core.configuration import Configuration
from mess_tf.core.errors import MessError, UsageError
from mess_tf.core.files import sha256_of, write_file
from mess_tf.core.json_files import write_json
from mess_tf.core.pieces import TensorInfo
from mess_tf.core.precisions import Precision, has_int8_activations
from mess_tf.core.routing import exit_position_per_image
from mess_tf.core.supernet_spec import SupernetSpec
from mess_tf.exporting.options import (
    AnswerContent,
    ExportForm,
    Form,
    IoType,
    Resolution,
)
from mess_tf.runs import Run
from mess_tf.terminal.progress import progress
from search.result import Outcome, SearchResult, load_results


def export(
    run: str | Path,
    form: ExportForm = ExportForm(),
    *,
    choice: str | Sequence[str] = (),
    device: str | None = None,
    precision: Precision = "int8",
) -> dict[str, Any]:
    """Writes chosen networks as .tflite files.

    Each chosen configuration becomes one file that stops early by itself (or another
    form), with a card that tells what it promises.

    Args:
        run: the run folder.
        form: what is written; ``single`` writes the best single exit for the same
            requirement.
        choice: name of a search result; may be repeated (default: all).
        device: device whose search results are taken, e.g. host (default: the
            recipe's).
        precision: precision of the pieces.

    Returns:
        ``run`` and ``exports``: per export its name, model, size, exits, and operators
        left in float with the reason.

    Raises:
        MessError: no such search result, pieces that do not fit together, or no single
            exit that keeps the requirement.
        UsageError: options that do not go together.
    """
    check_choice("form", form.form, get_args(Form))
    check_choice("input", form.input, get_args(IoType))
    check_choice("output", form.output, get_args(IoType))
    check_choice("answer", form.answer, get_args(AnswerContent))
    check_choice("resolution", form.resolution, get_args(Resolution))
    opened = Run.open(run)
    name = device or opened.recipe.profile.device
    spec = SupernetSpec.load(opened.supernet_structure)
    form.check(precision, len(spec.classes))
    results = load_results(opened.search(name, precision) / "chosen.json")
    by_name = {result.name: result for result in results}
    choices = as_tuple(choice)
    for wanted in choices:
        if wanted not in by_name:
            raise MessError(
                f"No search result named {wanted!r} for {name} and {precision}; there"
                f" are {', '.join(by_name) or 'none'}."
            )
    for wanted in choices or by_name:
        _check_threshold_input(by_name[wanted], form)
    source = Source.open(opened, precision, device, unmeasured_heads="leave out")
    exports = []
    with progress("Exporting", len(choices or by_name)) as step:
        for wanted in choices or by_name:
            exports.append(_export_one(source, by_name[wanted], form))
            step(note=wanted)
    names = [row["name"] for row in exports] if choices else None
    return {
        "run": str(run),
        "exports": exports,
        "next": next_command("check", run, name=names, device=device),
    }


def _export_one(
    source: Source, result: SearchResult, form: ExportForm
) -> dict[str, Any]:
    """Writes one export's folder, whole or not at all."""
    from mess_tf.compiling.piece_folder import write_folder_atomically

    outcome = _outcome(result, form)
    _must_be_measured(source, result)
    _must_be_current(source, result, outcome)
    precision = source.pieces.precision
    folder = source.run.export(f"{result.name}_{precision}{form.suffix}")
    with write_folder_atomically(folder) as partial:
        card = write_export(source, result, outcome, form, partial, folder.name)
        write_json(partial / "card.json", card)
    return {
        "name": folder.name,
        "model": str(folder / card["model"]),
        "precision": precision,
        "size_bytes": card["size_bytes"],
        "exits": card["exits"],
        "in_float": card["in_float"],
    }


def write_export(
    source: Source,
    result: SearchResult,
    outcome: Outcome,
    form: ExportForm,
    folder: Path,
    name: str,
) -> dict[str, Any]:
    """Writes an export's ``.tflite`` files into a folder and gives its whole card.

    Args:
        result: the search's.
        outcome: the one of the result's outcomes that is exported.
        name: of the export, for its card.
    """
    from mess_tf.exporting.embedded_card import with_card

    files, tensors = _write_files(source, outcome.configuration, form, folder)
    card = make_card(source, result, outcome, form, files, tensors, name)
    write_file(files[0], with_card(files[0].read_bytes(), card.to_json()))
    return CardFile.of(
        card,
        model=files[0].name,
        size_bytes=sum(path.stat().st_size for path in files),
        files={path.name: sha256_of(path) for path in files},
    ).to_json()


def _outcome(result: SearchResult, form: ExportForm) -> Outcome:
    """What is exported: the result itself, or its best single exit."""
    if form.form != "single" or len(result.configuration.exits) == 1:
        return result.chosen
    if result.best_static is None:
        raise MessError(
            f"No single exit keeps the requirement of {result.name}; leave --form out,"
            " or search with another requirement."
        )
    return result.best_static


def _check_threshold_input(result: SearchResult, form: ExportForm) -> None:
    """A single exit has no threshold that could be an input."""
    if form.threshold_input and len(result.configuration.exits) == 1:
        raise UsageError(
            f"{result.name} leaves at one exit and has no threshold, so"
            " --threshold-input is without effect; leave it out, or name results with"
            " early exits by --choice."
        )


def _must_be_measured(source: Source, result: SearchResult) -> None:
    """A card promises what was measured, never what was predicted."""
    if not result.predicted:
        return
    names = ", ".join(sorted(result.predicted))
    folder = source.run.folder
    raise MessError(
        f"{result.name} rests on predicted latencies ({names}); measure them with `mess"
        f" profile {folder} --share` and the share you took, which now takes what was"
        f" chosen too, then run `mess search {folder}` again as before."
    )


def _must_be_current(source: Source, result: SearchResult, outcome: Outcome) -> None:
    """What was promised has to be what the statistics of today give."""
    from mess_tf.quantising.thresholds import routed

    # A guarantee is fitted on a part of the calibration images.
    part = "calibration" if outcome.report is None else "report"
    if part == "calibration" and result.certified is not None:
        return
    promised = getattr(outcome, part)
    configuration, statistics = outcome.configuration, source.statistics
    last = source.spec.exit_points[-1].index
    final = (last, source.spec.final_head.id)
    heads = {final, *((choice.exit, choice.head) for choice in configuration.exits)}
    now = None
    if heads <= set(statistics.heads):
        place = exit_position_per_image(statistics, configuration)
        now = routed(statistics, configuration, place, final, part)
    if now is not None and math.isclose(now.miou, promised.miou, abs_tol=1e-9):
        return
    told = "not in them" if now is None else f"{now.miou:.2%} now"
    raise MessError(
        f"{result.name} was found with other statistics of {source.pieces.precision}"
        f" (mIoU {promised.miou:.2%} on the {part} part, {told}); run `mess search`"
        " again, or `mess quantise` for int8-qat."
    )


def _write_files(
    source: Source, configuration: Configuration, form: ExportForm, folder: Path
) -> tuple[list[Path], tuple[TensorInfo, TensorInfo | None]]:
    """Writes the files, the one for the card first; also image input and logits."""
    from mess_tf.exporting.linking import link_configuration
    from mess_tf.exporting.staged_export import link_stages, stage_files
    from mess_tf.runtime.linked_model import LinkedModel
    from mess_tf.runtime.stage_plan import StagedModel

    if form.form == "stages":
        plan = link_stages(source.pieces, source.spec, configuration, folder, form)
        staged = StagedModel(folder)
        names = stage_files(plan)
        return [folder / name for name in names], (staged.image, staged.logits)
    path = folder / "model.tflite"
    link_configuration(source.pieces, source.spec, configuration, path, form)
    linked = LinkedModel(path)
    return [path], (linked.image, linked.logits)


def render(result: dict[str, Any]) -> str:
    """One paragraph per export."""
    lines = []
    for row in result["exports"]:
        exits = " > ".join(f"{e['exit']}:{e['head']}" for e in row["exits"])
        lines.append(f"{row['model']} ({row['size_bytes'] / 1e6:.2f} MB): {exits}")
        if has_int8_activations(row["precision"]):
            lines += _float_lines(row["in_float"])
    return "\n".join(lines)


def _float_lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    by_reason: dict[str, list[str]] = {}
    for row in rows:
        text = f"{row['operator']} {row['count']}"
        by_reason.setdefault(row["reason"], []).append(text)
    if not by_reason:
        return ["  operators in float: none"]
    return [
        f"  operators in float: {', '.join(texts)} ({reason})"
        for reason, texts in by_reason.items()
    ]

"""``mess export``."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from mess_tf.commands.arguments import as_tuple, check_choice, next_command
from mess_tf.commands.card_records import CardFile
from mess_tf.commands.cards import Choice, Source, make_card
from mess_tf.core.errors import MessError, UsageError
from mess_tf.core.files import sha256_of, write_file
from mess_tf.core.json_files import write_json
from mess_tf.core.pieces import TensorInfo
from mess_tf.core.precisions import Precision, has_int8_activations
from mess_tf.core.routing import exit_position_per_image
from mess_tf.core.supernet_spec import SupernetSpec
from mess_tf.evaluation.accuracy import head_miou
from mess_tf.exporting.options import (
    AnswerContent,
    ExportForm,
    Form,
    IoType,
    Resolution,
)
from mess_tf.runs import Run
from mess_tf.terminal.progress import progress
from search.anytime import AnytimeResult
from search.result import (
    Outcome,
    SearchResult,
    load_anytime_results,
    load_results,
)


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
            requirement. Results of the anytime setting become ``progressive``: a file
            per exit and a plan in which each one answers.
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
    chosen = opened.search(name, precision) / "chosen.json"
    by_name: dict[str, SearchResult | AnytimeResult] = {}
    by_name |= {result.name: result for result in load_results(chosen)}
    by_name |= {result.name: result for result in load_anytime_results(chosen)}
    choices = as_tuple(choice)
    for wanted in choices:
        if wanted not in by_name:
            raise MessError(
                f"No search result named {wanted!r} for {name} and {precision}; there"
                f" are {', '.join(by_name) or 'none'}."
            )
    for wanted in choices:
        _check_threshold_input(by_name[wanted], form)
        _check_form(by_name[wanted], form)
    results = [r for n, r in by_name.items() if n in choices or not choices]
    if not choices:
        results = [r for r in results if _fits(r, form)]
        if not results:
            raise MessError(
                f"No search result for {name} and {precision} can be written with"
                f" --form {form.form}; there are {', '.join(by_name) or 'none'}."
            )
    for result in results:
        _check_threshold_input(result, form)
    source = Source.open(opened, precision, device, unmeasured_heads="leave out")
    exports = []
    with progress("Exporting", len(results)) as step:
        for result in results:
            exports.append(_export_one(source, result, _form_of(result, form)))
            step(note=result.name)
    names = [row["name"] for row in exports] if choices else None
    return {
        "run": str(run),
        "exports": exports,
        "next": next_command("check", run, name=names, device=device),
    }


def _fits(result: SearchResult | AnytimeResult, form: ExportForm) -> bool:
    """Whether a result can be written in a form; the default form suits all."""
    if isinstance(result, AnytimeResult):
        decides = form.threshold_input or form.exit_signatures
        return form.form in ("linked", "progressive") and not decides
    return form.form != "progressive"


def _form_of(result: SearchResult | AnytimeResult, form: ExportForm) -> ExportForm:
    """The form in which a result is written."""
    if isinstance(result, AnytimeResult):
        return dataclasses.replace(form, form="progressive")
    return form


def _check_form(result: SearchResult | AnytimeResult, form: ExportForm) -> None:
    """Refuses a form that a result named by --choice cannot have."""
    if _fits(result, form):
        return
    why = (
        "is for deadlines: every exit answers, which --form progressive (the default"
        " for it) writes"
        if isinstance(result, AnytimeResult)
        else "has one answer per image; --form progressive is for results of `mess"
        " search --setting anytime`"
    )
    raise UsageError(f"--form {form.form}: {result.name} {why}.")


def _export_one(
    source: Source, result: SearchResult | AnytimeResult, form: ExportForm
) -> dict[str, Any]:
    """Writes one export's folder, whole or not at all."""
    from mess_tf.compiling.piece_folder import write_folder_atomically

    outcome = None
    _must_be_measured(source, result)
    if isinstance(result, AnytimeResult):
        _must_have_the_same_heads(source, result)
    else:
        outcome = _outcome(result, form)
        _must_be_current(source, result, outcome)
    precision = source.pieces.precision
    folder = source.run.export(f"{result.name}_{precision}{form.suffix}")
    with write_folder_atomically(folder) as partial:
        choice = Choice(result, outcome)
        card = write_export(source, choice, form, partial, folder.name)
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
    source: Source, choice: Choice, form: ExportForm, folder: Path, name: str
) -> dict[str, Any]:
    """Writes an export's ``.tflite`` files into a folder; returns its whole card.

    Args:
        source: what the export is made of.
        choice: what is exported.
        form: of the export.
        folder: to write into.
        name: of the export, for its card.
    """
    from mess_tf.exporting.embedded_card import with_card

    files, tensors = _write_files(source, choice, form, folder)
    card = make_card(source, choice, form, files, tensors, name)
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


def _check_threshold_input(
    result: SearchResult | AnytimeResult, form: ExportForm
) -> None:
    """A single exit has no threshold that could be an input, deadlines have none."""
    if isinstance(result, AnytimeResult):
        for flag in ("threshold_input", "exit_signatures"):
            if getattr(form, flag):
                raise UsageError(
                    f"--{flag.replace('_', '-')} is without effect for {result.name}:"
                    " each exit has a separate file; leave it out, or name other"
                    " results by --choice."
                )
        return
    if form.threshold_input and len(result.configuration.exits) == 1:
        raise UsageError(
            f"{result.name} leaves at one exit and has no threshold, so"
            " --threshold-input is without effect; leave it out, or name results with"
            " early exits by --choice."
        )


def _must_be_measured(source: Source, result: SearchResult | AnytimeResult) -> None:
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


def _must_have_the_same_heads(source: Source, result: AnytimeResult) -> None:
    """What was promised per exit has to be what the statistics of today say."""
    for one in result.exits:
        now = None
        if (one.exit, one.head) in source.statistics.heads:
            now = head_miou(source.statistics, (one.exit, one.head), "calibration")
        if now is None or not math.isclose(now, one.calibration_miou, abs_tol=1e-9):
            raise MessError(
                f"{result.name} was found with other statistics of"
                f" {source.pieces.precision} (head {one.head} of exit {one.exit});"
                " run `mess search` again."
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
    reported = "not in them" if now is None else f"{now.miou:.2%} now"
    raise MessError(
        f"{result.name} was found with other statistics of {source.pieces.precision}"
        f" (mIoU {promised.miou:.2%} on the {part} part, {reported}); run `mess search`"
        " again, or `mess quantise` for int8-qat."
    )


def _write_files(
    source: Source, choice: Choice, form: ExportForm, folder: Path
) -> tuple[list[Path], tuple[TensorInfo, TensorInfo | None]]:
    """Writes the files, the one for the card first; also image input and logits."""
    from mess_tf.exporting.linking import link_configuration
    from mess_tf.exporting.staged_export import (
        link_progressive,
        link_stages,
        stage_files,
    )
    from mess_tf.runtime.linked_model import LinkedModel
    from mess_tf.runtime.stage_plan import StagedModel

    pieces, spec = source.pieces, source.spec
    if choice.outcome is None or form.form == "stages":
        if choice.outcome is None:
            heads = [(one.exit, one.head) for one in choice.exits]
            plan = link_progressive(pieces, spec, heads, folder, form)
        else:
            plan = link_stages(pieces, spec, choice.outcome.configuration, folder, form)
        staged = StagedModel(folder)
        names = stage_files(plan)
        return [folder / name for name in names], (staged.image, staged.logits)
    path = folder / "model.tflite"
    link_configuration(pieces, spec, choice.outcome.configuration, path, form)
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

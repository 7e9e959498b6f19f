"""What ``mess search`` tells a person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def render(result: dict[str, Any]) -> str:
    """Every result beside the best static exit and the final exit."""
    devices = result["devices"]
    lines = []
    for row in devices:
        if len(devices) > 1:
            lines.append(f"On {row['device']}:")
        lines += _of_device(row, result["run"])
    if len(devices) > 1 and any(device["results"] for device in devices):
        lines += ["", *_table(devices)]
    if result["hint"]:
        lines.append(result["hint"])
    return "\n".join(lines)


def _of_device(device: dict[str, Any], run: str) -> list[str]:
    lines = []
    for row in device["results"]:
        lines.append(f"{row['name']} ({_proof(row)} of {row['space_size']:.2g}):")
        for title, outcome in (
            ("chosen", row["chosen"]),
            ("best static exit", row["best_static"]),
            ("final exit", row["reference"]),
        ):
            if outcome is not None:
                lines.append(f"  {title:17s} {_outcome(outcome, row['reference'])}")
        lines += [f"  {line}" for line in _assurances(row)]
        lines += [f"  {line}" for line in _finalists(row)]
        lines += [f"  {line}" for line in _predictions(row, run)]
    for row in device["anytime"]:
        lines += _anytime(row)
        lines += [f"  {line}" for line in _predictions(row, run)]
    lines += [f"{row['name']}: {row['reason']}" for row in device["unmet"]]
    if device["hypervolume"] is not None:
        lines.append(
            f"Pareto front: hypervolume {device['hypervolume']:.4f}, at most"
            f" {device['front_early_exits']} early exits"
        )
    return lines


def _anytime(row: dict[str, Any]) -> list[str]:
    """The exits for some deadlines, and per deadline the best single exit for it."""
    part = "calibration" if row["weighted_report_miou"] is None else "report"
    chain = " > ".join(
        f"{one['exit']}:{one['head']} at {one['completion_ms']:.2f} ms"
        for one in row["exits"]
    )
    lines = [
        f"{row['name']} (proven optimal): mIoU {row[f'weighted_{part}_miou']:.2%},"
        f" weighted over the deadlines, on the {part} part: {chain}"
    ]
    for deadline in row["deadlines"]:
        title = f"  by {deadline['deadline_ms']:g} ms"
        single = deadline["best_single"]
        if deadline["position"] is None:
            answer = "no answer yet"
        else:
            answer = f"exit {row['exits'][deadline['position']]['exit']}"
        miou = deadline[f"{part}_miou"]
        line = f"{title:17s}   {answer}, mIoU {miou:.2%}"
        if single is not None:
            line += (
                f"; best single exit {single['exit']}:{single['head']} at"
                f" {single['completion_ms']:.2f} ms, mIoU {single[f'{part}_miou']:.2%}"
                f" ({100 * (miou - single[f'{part}_miou']):+.2f} pp)"
            )
        lines.append(line)
    return lines


def _proof(row: dict[str, Any]) -> str:
    if row["proven"]:
        return "proven optimal"
    if any(f["measured_ms"] is not None for f in row["finalists"]):
        return "picked by measurement"
    certified = row["certified"]
    if certified is not None and certified["step"] > 0:
        return "thresholds drawn back for the guarantee"
    return f"gap {row['gap']:.3g} at the time limit"


def _predictions(row: dict[str, Any], run: str) -> list[str]:
    """Which heads have no measured latency, and what to do about it."""
    if not row["predicted"]:
        return []
    ends = ", ".join(
        f"{name} {low:.3f} to {high:.3f} ms"
        for name, (low, high) in sorted(row["predicted"].items())
    )
    return [
        f"PREDICTED, not measured: {ends}. Before you publish it, run `mess profile"
        f" {run} --share` with the share you took, which now measures what was chosen"
        " too, and this search again"
    ]


def _finalists(row: dict[str, Any]) -> list[str]:
    """Promised and measured, of those that were measured."""
    lines = []
    for finalist in row["finalists"]:
        if finalist["measured_ms"] is not None:
            outcome = finalist["outcome"]
            chosen = outcome["configuration"] == row["chosen"]["configuration"]
            promised_ms = outcome["calibration"]["mean_ms"]
            lines.append(
                f"finalist{' (chosen)' if chosen else ''}: measured"
                f" {finalist['measured_ms']:.3f} ms, promised {promised_ms:.3f} ms on"
                f" the calibration images: {_exits(outcome)}"
            )
    return lines


def _table(devices: Sequence[dict[str, Any]]) -> list[str]:
    """Mean latency per device, and what of it the final exit takes."""
    names = dict.fromkeys(row["name"] for d in devices for row in d["results"])
    width = max(len(device["device"]) for device in devices)
    cells = {name: max(len(name), 20) for name in names}
    head = "  ".join(f"{name:>{size}}" for name, size in cells.items())
    lines = [f"{'mean ms (of the final)':{width}}  {head}"]
    for device in devices:
        by_name = {row["name"]: row for row in device["results"]}
        texts = []
        for name, size in cells.items():
            text = "-"
            if name in by_name:
                ms = _figures(by_name[name]["chosen"])["mean_ms"]
                final_ms = _figures(by_name[name]["reference"])["mean_ms"]
                text = f"{ms:.2f} ({ms / final_ms:.0%})"
            texts.append(f"{text:>{size}}")
        lines.append(f"{device['device']:{width}}  {'  '.join(texts)}")
    return lines


def _figures(outcome: dict[str, Any]) -> dict[str, Any]:
    figures: dict[str, Any] = outcome["report"] or outcome["calibration"]
    return figures


def _assurances(row: dict[str, Any]) -> list[str]:
    """What a robust choice or a guarantee says beyond the figures."""
    lines = []
    robust, certified = row["robustness"], row["certified"]
    if robust is not None:
        lines.append(
            f"by {row['requirement']['robust']}: {robust['mean_ms']:.2f} ms mean, drop"
            f" {robust['drop_pp']:+.2f} pp"
        )
    if certified is not None:
        wish = certified["guarantee"]
        held = certified["step"] > 0 or certified["steps"] == 0
        lines.append(
            f"guarantee {'met' if held else 'NOT MET beyond the final exit'}: at most"
            f" {wish['max_share']:.1%} of new groups' images lose more than"
            f" {wish['max_image_drop_pp']:g} pp, with confidence"
            f" {wish['confidence']:g} (tested on {certified['groups']} groups, at least"
            f" {certified['least_groups']} are needed; step {certified['step']} of"
            f" {certified['steps']})"
        )
    return lines


def _outcome(outcome: dict[str, Any], final: dict[str, Any]) -> str:
    figures = _figures(outcome)
    faster = _figures(final)["mean_ms"] / figures["mean_ms"]
    rates = "/".join(f"{rate:.0%}" for rate in figures["exit_rates"])
    part = "calibration" if outcome["report"] is None else "report"
    all_met = all(figures["met"].values())
    met = f", {'met' if all_met else 'NOT MET'} on the {part} part"
    return (
        f"{figures['mean_ms']:.2f} ms mean ({faster:.2f}x), {figures['p90_ms']:.2f} ms"
        " p90, mIoU"
        f" {figures['miou']:.2%} (drop {figures['drop_pp']:+.2f} pp), exits {rates}"
        f"{met}: {_exits(outcome)}"
    )


def _exits(outcome: dict[str, Any]) -> str:
    return " > ".join(
        f"{c['exit']}:{c['head']}"
        + (f" [{c['policy']} >= {c['threshold']:.4g}]" if c["policy"] else "")
        for c in outcome["configuration"]
    )

"""Tables of what `run.py` left in OUT: mIoU per exit, and the claims.

    python benchmarks/camvid/tables.py OUT

mIoU is of all evaluation images, none of which trains and on none of which anything was
chosen, with plain FCN heads at every exit: mean over seeds and, in brackets, the lowest
and the highest. A claim is a difference of two rows, paired by seed, with Student's
interval of 95 %: confirmed if all of the interval is on the claim's side, contradicted
if all of it is on the other, else not confirmed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from intervals import difference, spread, student
from rows import ROWS

from mess_tf.core.json_files import read_json
from mess_tf.core.supernet_spec import HeadSpec

Mious = np.ndarray
"""Per exit, in order of depth, in per cent."""


@dataclass(frozen=True)
class Claim:
    """``first`` is better than ``second`` by more than ``least`` points.

    Attributes:
        text: the claim.
        measure: of which figure of a row.
        least: 0, or below it where "no worse" is claimed.
    """

    text: str
    first: str
    second: str
    measure: Callable[[Mious], float]
    least: float = 0.0


def early(mious: Mious) -> float:
    return float(mious[:-1].mean())


def final(mious: Mious) -> float:
    return float(mious[-1])


CLAIMS = (
    Claim(
        "two-stage: final exit at most 1 pp below Frozen's",
        *("two-stage-ce", "frozen-ce", final, -1.0),
    ),
    Claim(
        "two-stage: better early exits than Frozen", "two-stage-ce", "frozen-ce", early
    ),
    Claim("two-stage: better final exit than E2E", "two-stage-ce", "e2e-ce", final),
    Claim("two-stage: better early exits than E2E", "two-stage-ce", "e2e-ce", early),
    Claim(
        "two-stage: better final exit than E2E, backbone trained equally long",
        *("two-stage-ce", "e2e-ce-short", final),
    ),
    Claim(
        "two-stage: better early exits than E2E, backbone trained equally long",
        *("two-stage-ce", "e2e-ce-short", early),
    ),
    Claim("PFD: better early exits than CE", "two-stage-pfd", "two-stage-ce", early),
    Claim("PFD: better early exits than KD", "two-stage-pfd", "two-stage-kd", early),
    Claim("KD: better early exits than CE", "two-stage-kd", "two-stage-ce", early),
    Claim(
        "MESS: better early exits than SelfDistill", "two-stage-pfd", "e2e-kd", early
    ),
    Claim("MESS: better final exit than SelfDistill", "two-stage-pfd", "e2e-kd", final),
    Claim(
        "PFD in full: better early exits than CE",
        *("two-stage-pfd-full", "two-stage-ce", early),
    ),
    Claim(
        "PFD in full: better early exits than PFD",
        *("two-stage-pfd-full", "two-stage-pfd", early),
    ),
)
TEACHER_CLAIMS = (
    Claim(
        "taught final exit: better final exit",
        *("two-stage-ce-strong", "two-stage-ce", final),
    ),
    Claim(
        "taught final exit: better early exits, all by CE",
        *("two-stage-ce-strong", "two-stage-ce", early),
    ),
    Claim(
        "taught final exit: PFD better early exits than CE",
        *("two-stage-pfd-strong", "two-stage-ce-strong", early),
    ),
    Claim(
        "taught final exit: KD better early exits than CE",
        *("two-stage-kd-strong", "two-stage-ce-strong", early),
    ),
    Claim(
        "taught final exit, PFD: better early exits than CE without any teacher",
        *("two-stage-pfd-strong", "two-stage-ce", early),
    ),
    Claim(
        "taught early exits: PFD better than CE",
        *("two-stage-pfd-taught", "two-stage-ce", early),
    ),
    Claim(
        "taught early exits: KD better than CE",
        *("two-stage-kd-taught", "two-stage-ce", early),
    ),
    Claim(
        "taught early exits: PFD better than by the own final exit",
        *("two-stage-pfd-taught", "two-stage-pfd", early),
    ),
    Claim(
        "taught early exits: PFD better than KD",
        *("two-stage-pfd-taught", "two-stage-kd-taught", early),
    ),
)
"""Ours: another run, trained longer on larger images, teaches the final exit or the
early ones."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", type=Path, help="folder that run.py wrote")
    found = read(parser.parse_args().out)
    print(rows_table(found))
    print()
    print(claims_table(found, CLAIMS))
    print()
    print(claims_table(found, TEACHER_CLAIMS))


def read(out: Path) -> dict[str, dict[int, Mious]]:
    """Per row and seed, mIoU of the plain heads."""
    found: dict[str, dict[int, Mious]] = {}
    for path in sorted(out.glob("*.json")):
        result = read_json(path, "row")
        plain = [m["all"] for m in result["miou"] if m["head"] == HeadSpec().id]
        found.setdefault(result["row"], {})[result["seed"]] = 100 * np.array(plain)
    return found


def rows_table(found: dict[str, dict[int, Mious]]) -> str:
    count = len(next(iter(next(iter(found.values())).values())))
    exits = " | ".join(f"exit {k}" for k in range(1, count))
    lines = [
        f"| row | seeds | {exits} | final | early exits, mean |",
        "|" + "---|" * (count + 3),
    ]
    for name in (row.name for row in ROWS if row.name in found):
        if name == "tailored":  # its plain heads are those of two-stage-pfd
            continue
        values = np.array(list(found[name].values()))
        columns = [*values.T, values[:, :-1].mean(axis=1)]
        cells = " | ".join(spread(column) for column in columns)
        lines.append(f"| `{name}` | {len(values)} | {cells} |")
    return "\n".join(lines)


def claims_table(found: dict[str, dict[int, Mious]], claims: Sequence[Claim]) -> str:
    lines = ["| claim | seeds | difference | |", "|---|---|---|---|"]
    for claim in claims:
        first, second = found.get(claim.first, {}), found.get(claim.second, {})
        seeds = sorted(first.keys() & second.keys())
        pairs = [claim.measure(first[s]) - claim.measure(second[s]) for s in seeds]
        lines.append(f"| {claim.text} | {len(seeds)} | {_judged(pairs, claim.least)} |")
    return "\n".join(lines)


def _judged(differences: list[float], least: float) -> str:
    verdict = ""
    if len(differences) > 1:
        _, low, high = student(differences)
        verdict = "not confirmed"
        if low > least:
            verdict = "confirmed"
        elif high < least:
            verdict = "contradicted"
    return f"{difference(differences)} | {verdict}"


if __name__ == "__main__":
    main()

"""Which operators cost what, in which piece, and where int8 is slower than float32."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

from android_bench.operator_records import OperatorProfile, OperatorTime

SLOWER = 1.05
"""Ratio of int8 to float32 from which an operator counts as slower: less is noise."""

LEAST_US = 1.0
"""Difference in microseconds below which an operator does not count as slower."""

BASELINE = "float32"
INTEGER = ("int8", "int8-qat")

_PRECISION = re.compile(r"^(.*?) \(.*?\)(.*)$")
_NUMBERS = re.compile(r" \d+\b")


@dataclass(frozen=True)
class FamilyCost:
    """Operators of one family in one piece.

    Attributes:
        precision: of the piece; empty for a single file.
        family: the operators' type without its number format.
        operators: how many there are.
        time_us: of one run of the piece, all of them.
        share: ``time_us`` as a part of the piece's operators.
    """

    precision: str
    piece: str
    family: str
    operators: int
    time_us: float
    share: float


@dataclass(frozen=True)
class SlowerInInt8:
    """Operators of a piece that take longer in int8 than in float32.

    Attributes:
        precision: ``int8`` or ``int8-qat``.
        number: position among the piece's operators of the family, from 1; None where
            the precisions have different numbers of them and their sums are compared.
        float32_us: 0 where only the int8 piece has such operators (conversions).
    """

    precision: str
    piece: str
    family: str
    number: int | None
    float32_us: float
    int8_us: float

    @property
    def lost_us(self) -> float:
        return self.int8_us - self.float32_us


@dataclass(frozen=True)
class OperatorCosts:
    """The operator profiles of one device.

    Attributes:
        device: its name.
        pieces: time of the operators per run, microseconds, by (precision, piece).
        families: by piece, then by time, longest first.
        slower: most time lost first.
    """

    device: str
    pieces: Mapping[tuple[str, str], float]
    families: tuple[FamilyCost, ...]
    slower: tuple[SlowerInInt8, ...]


def family_of(kind: str) -> str:
    """An operator's type without number format and node numbers.

    Example:
        >>> family_of("Convolution (NHWC, QC8) IGEMM")
        'Convolution IGEMM'
    """
    match = _PRECISION.match(kind)
    return _NUMBERS.sub("", match[1] + match[2] if match else kind).strip()


def operator_costs(device: str, profiles: Iterable[OperatorProfile]) -> OperatorCosts:
    """Costs from the profiles of one device with one setting; failures are left out."""
    by_piece: dict[tuple[str, str], dict[str, list[OperatorTime]]] = {}
    for profile in profiles:
        if profile.failed:
            continue
        precision, _, piece = profile.name.rpartition("/")
        families: dict[str, list[OperatorTime]] = {}
        for operator in profile.main_graph:
            families.setdefault(family_of(operator.kind), []).append(operator)
        by_piece[precision, piece] = families
    pieces = {
        key: sum(map(_sum_us, families.values())) for key, families in by_piece.items()
    }
    costs = [
        FamilyCost(
            *key,
            family,
            len(operators),
            _sum_us(operators),
            _sum_us(operators) / pieces[key] if pieces[key] else 0.0,
        )
        for key, families in by_piece.items()
        for family, operators in sorted(
            families.items(), key=lambda item: -_sum_us(item[1])
        )
    ]
    slower = [
        row
        for (precision, piece), families in by_piece.items()
        if precision in INTEGER and (BASELINE, piece) in by_piece
        for row in _slower(precision, piece, by_piece[BASELINE, piece], families)
    ]
    return OperatorCosts(
        device, pieces, tuple(costs), tuple(sorted(slower, key=lambda r: -r.lost_us))
    )


def _slower(
    precision: str,
    piece: str,
    float32: Mapping[str, Sequence[OperatorTime]],
    int8: Mapping[str, Sequence[OperatorTime]],
) -> list[SlowerInInt8]:
    rows = []
    for family, operators in int8.items():
        others = float32.get(family, ())
        pairs: list[tuple[int | None, float, float]] = [
            (None, _sum_us(others), _sum_us(operators))
        ]
        if len(others) == len(operators):
            pairs = [
                (number, one.time_us, other.time_us)
                for number, (one, other) in enumerate(
                    zip(others, operators, strict=True), 1
                )
            ]
        for number, float32_us, int8_us in pairs:
            if int8_us > SLOWER * float32_us and int8_us - float32_us >= LEAST_US:
                rows.append(
                    SlowerInInt8(precision, piece, family, number, float32_us, int8_us)
                )
    return rows


def _sum_us(operators: Sequence[OperatorTime]) -> float:
    return sum(operator.time_us for operator in operators)


def families_csv(costs: Sequence[OperatorCosts]) -> str:
    """Every family's cost in every piece, as CSV."""
    columns = ["device", *(field.name for field in fields(FamilyCost))]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for device in costs:
        for row in device.families:
            writer.writerow([device.device, *(getattr(row, c) for c in columns[1:])])
    return text.getvalue()

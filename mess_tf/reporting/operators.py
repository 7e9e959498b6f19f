"""Which operators cost what, in which piece, and where int8 is slower than float32."""

from __future__ import annotations

import csv
import dataclasses
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from android_bench.operator_records import OperatorProfile, OperatorTime
from android_bench.store import Store
from mess_tf.core.files import write_file
from mess_tf.core.pieces import Pieces
from mess_tf.core.precisions import PRECISIONS
from mess_tf.runs import Run, file_name

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

    @property
    def precisions(self) -> tuple[str, ...]:
        """Those of the pieces, each once."""
        return tuple(dict.fromkeys(precision for precision, _ in self.pieces))

    @property
    def rows(self) -> tuple[PieceRow, ...]:
        """A row per piece; see ``piece_rows``."""
        return piece_rows(self)


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


@dataclass(frozen=True)
class PieceRow:
    """One piece, its precisions side by side.

    Attributes:
        total_us: of its operators, by precision.
        costliest: its families of the most time with their shares, by precision.
    """

    piece: str
    total_us: Mapping[str, float]
    costliest: Mapping[str, tuple[tuple[str, float], ...]]


def piece_rows(costs: OperatorCosts, most: int = 3) -> tuple[PieceRow, ...]:
    """A row per piece, that of the most time first.

    Args:
        most: families to name.
    """
    totals: dict[str, dict[str, float]] = {}
    for (precision, piece), total_us in costs.pieces.items():
        totals.setdefault(piece, {})[precision] = total_us
    named: dict[tuple[str, str], list[tuple[str, float]]] = {}
    for row in costs.families:
        named.setdefault((row.precision, row.piece), []).append((row.family, row.share))
    rows = [
        PieceRow(
            piece,
            by_precision,
            {
                precision: tuple(named[precision, piece][:most])
                for precision in by_precision
            },
        )
        for piece, by_precision in totals.items()
    ]
    return tuple(sorted(rows, key=lambda row: -max(row.total_us.values())))


def stored_operator_costs(run: Run) -> tuple[OperatorCosts, ...]:
    """The newest operator profiles of the run's present pieces, by device.

    Of profiles with several settings those of the newest are taken.
    """
    if not run.profiles.is_file():
        return ()
    names: dict[str, str] = {}
    for precision in PRECISIONS:
        if (run.pieces(precision) / "pieces.json").is_file():
            for piece in Pieces.load(run.pieces(precision)).pieces:
                names[piece.sha256] = f"{precision}/{piece.name}"
    with Store(run.profiles, must_exist=True) as store:
        devices = {info.fingerprint: info.name for info in store.devices()}
        profiles = [p for p in store.operator_profiles() if p.sha256 in names]
    newest: dict[str, dict[str, OperatorProfile]] = {}
    settings: dict[str, tuple[str, str]] = {}
    for profile in profiles:  # oldest first
        if profile.failed:
            continue
        key = profile.settings_key, profile.tool_key
        if settings.get(profile.fingerprint) != key:
            settings[profile.fingerprint] = key
            newest[profile.fingerprint] = {}
        named = dataclasses.replace(profile, name=names[profile.sha256])
        newest[profile.fingerprint][named.name] = named
    return tuple(
        operator_costs(devices.get(fingerprint, fingerprint), found.values())
        for fingerprint, found in newest.items()
    )


def write_operators(costs: Sequence[OperatorCosts], folder: Path) -> list[Path]:
    """Writes ``operators_<device>.csv`` for each device.

    Raises:
        MessError: a file cannot be written.
    """
    written = []
    for device in costs:
        path = folder / f"operators_{file_name(device.device)}.csv"
        write_file(path, families_csv([device]).encode())
        written.append(path)
    return written


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

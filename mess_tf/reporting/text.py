"""Numbers and configurations as the page writes them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mess_tf.core.configuration import ExitChoice


def ms(value: float | None) -> str:
    """``0.125 ms``, ``1.25 ms``, ``12.5 ms``."""
    if value is None:
        return "–"
    return f"{value:.{3 if value < 1 else 2 if value < 10 else 1}f} ms"


def percent(value: float | None, digits: int = 1) -> str:
    """A fraction as per cent; a dash where there is none."""
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}%}"


def rates(values: Sequence[float], digits: int = 1) -> str:
    """Fractions as per cent, one after the other."""
    return " / ".join(percent(value, digits) for value in values)


def pp(drop: float) -> str:
    """A drop as the change of mIoU: ``−0.84 pp`` is worse than the final exit."""
    change = -round(drop, 2)
    sign = "−" if change < 0 else "+" if change > 0 else "±"
    return f"{sign}{abs(change):.2f} pp"


def times(value: float) -> str:
    """``1.95×``."""
    return f"{value:.2f}×"


def speed(value: float) -> str:
    """``1.95× faster``, ``1.00× as fast``."""
    return f"{times(value)} {'faster' if round(value, 2) > 1 else 'as fast'}"


def macs(value: int | None) -> str:
    """``1.23 G`` or ``45.6 M``."""
    if value is None:
        return "–"
    return f"{value / 1e9:.2f} G" if value >= 1e9 else f"{value / 1e6:.1f} M"


def megabytes(size: int) -> str:
    """``1.23 MB``."""
    return f"{size / 1e6:.2f} MB"


def count(value: float) -> str:
    """Two digits are enough of a space's size: ``55,000``, ``5.5 × 10^9``."""
    if value < 1e6:
        return f"{float(f'{value:.2g}'):,.0f}"
    digits, _, power = f"{value:.1e}".partition("e")
    return f"{digits} × 10^{int(power)}"


def signs(text: str) -> str:
    """``<=`` and ``>=`` as one character each."""
    return text.replace("<=", "≤").replace(">=", "≥")


def configuration_text(
    exits: Sequence[ExitChoice], shares: Sequence[float] = ()
) -> str:
    """``exit 2 fcn_r1_b0 leaves at mean ≥ 0.93 (61%) › exit 4 …``."""
    known: list[float | None] = list(shares) or [None] * len(exits)
    texts = []
    for choice, rate in zip(exits, known, strict=True):
        rule = (
            f" leaves at {choice.policy} ≥ {choice.threshold:.4g}"
            if choice.policy is not None and choice.threshold is not None
            else ""
        )
        share = "" if rate is None or len(exits) == 1 else f" ({rate:.0%})"
        texts.append(f"exit {choice.exit} {choice.head}{rule}{share}")
    return " › ".join(texts)

"""The rows of the comparison: what each changes of ``recipe.toml``.

All rows but ``e2e-ce-short`` pass over the training images equally often: those without
a second stage have its epochs in their first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

RECIPE = Path(__file__).with_name("recipe.toml")
BOTH_STAGES = 12  # stage1_epochs + stage2_epochs of the recipe

TAILORED = {
    1: ["fcn_r1_b0", "fcn_r2_b1", "fcn_r2_b2_rdi", "fcn_r4_b2_rdi"],
    2: ["fcn_r1_b0", "fcn_r1_b1", "fcn_r2_b2_rdi", "dlb_r2_b0", "fcn_r1_b0_s1"],
    3: ["fcn_r1_b0", "fcn_r1_b1", "dlb_r2_b0", "fcn_r1_b0_s2", "dlb_r1_b0_s2_s1"],
    4: ["fcn_r1_b0", "fcn_r1_b1", "dlb_r2_b0", "fcn_r1_b0_s2", "dlb_r1_b0_s2_s1"],
    5: ["fcn_r1_b0", "fcn_r2_b1", "dlb_r2_b0", "fcn_r1_b0_s2", "dlb_r1_b0_s2_s1"],
}
"""Candidate heads per early exit; those with ``_s`` read skips, which are ours."""


@dataclass(frozen=True)
class Row:
    """One training.

    Attributes:
        name: of the row; ``<scheme>-<loss>`` where these are all it changes.
        changes: of the recipe.
        begins: row whose first stage is the same and is taken over if it is there.
        has_teacher: whether another run teaches.
    """

    name: str
    changes: Mapping[str, object] = field(default_factory=dict)
    begins: str = ""
    has_teacher: bool = False


def _trained(scheme: str, loss: str, begins: str = "") -> Row:
    changes: dict[str, object] = {"training.scheme": scheme, "training.loss": loss}
    if scheme == "e2e":
        changes["training.stage1_epochs"] = BOTH_STAGES
    return Row(f"{scheme}-{loss}", changes, begins)


def _taught(whom: str, loss: str, begins: str = "") -> Row:
    name = f"two-stage-{loss}-{'strong' if whom == 'final' else 'taught'}"
    changes = {"training.loss": loss, "training.taught": [whom]}
    return Row(name, changes, begins, has_teacher=True)


_FIRST = "two-stage-pfd"
_STRONG = f"{_FIRST}-strong"

ROWS: tuple[Row, ...] = (
    _trained("two-stage", "pfd"),
    Row("tailored", {"heads.early": TAILORED}, _FIRST),
    _trained("two-stage", "ce", _FIRST),
    _trained("frozen", "ce"),
    _trained("e2e", "ce"),
    _trained("two-stage", "kd", _FIRST),
    _trained("e2e", "kd"),
    Row("e2e-ce-short", {"training.scheme": "e2e", "training.loss": "ce"}),
    _trained("two-stage", "pfd-full", _FIRST),
    _taught("final", "pfd"),
    _taught("final", "kd", _STRONG),
    _taught("final", "ce", _STRONG),
    _taught("early", "pfd", _FIRST),
    _taught("early", "kd", _FIRST),
)
"""In the order of what matters. Frozen, E2E and SelfDistill (``e2e-kd``) are the
supplement's names for what others do; ``e2e-ce-short`` trains the backbone as long as
the two-stage rows do, and no longer. In ``-strong`` rows another run teaches the final
exit, which then teaches the early ones; in ``-taught`` rows it teaches the early ones
itself."""

"""The recipe of a run: all its sections, and the rules that span two of them.

Reading and writing TOML is in ``mess_tf.recipe.files``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mess_tf.core.errors import MessError
from mess_tf.core.supernet_spec import OWN, HeadSpec
from mess_tf.policies.registry import POLICIES
from mess_tf.recipe.sections import (
    AUTO_DEEPLAB,
    SECTIONS,
    Compile,
    Data,
    Heads,
    Network,
    Profile,
    Quantise,
    Search,
    StatisticsSettings,
    Training,
)
from mess_tf.recipe.settings import (
    as_toml,
    check_image_size,
    read_section,
    unknown_key,
)


@dataclass(frozen=True)
class Recipe:
    """All sections together; every rule that spans two settings is held here."""

    data: Data
    network: Network = field(default_factory=Network)
    heads: Heads = field(default_factory=Heads)
    training: Training = field(default_factory=Training)
    statistics: StatisticsSettings = field(default_factory=StatisticsSettings)
    compile: Compile = field(default_factory=Compile)
    quantise: Quantise = field(default_factory=Quantise)
    profile: Profile = field(default_factory=Profile)
    search: Search = field(default_factory=Search)

    def __post_init__(self) -> None:
        data, network, training = self.data, self.network, self.training
        if data.kind != "drawn" and not data.path:
            raise MessError(
                "data.path is missing; name the data set's folder in the recipe or by"
                " --data."
            )
        if network.alpha != 1.0 and network.backbone != "mobilenet_v2":
            raise MessError(
                f"network.alpha = {network.alpha:g} is not accepted with"
                f" {network.backbone}, which has one width; leave alpha out."
            )
        if not network.is_imported:
            stride = max(network.output_stride, network.logits_stride)
            check_image_size(network.height, network.width, stride)
        if network.is_imported:
            self._check_own_network()
        elif network.mean or network.std or network.weights == "own":
            raise MessError(
                "network.mean, std and weights = 'own' are for a network of your own;"
                f" leave them out with {network.backbone}."
            )
        if network.backbone in AUTO_DEEPLAB and network.weights != "random":
            raise MessError(
                f"network.weights = {network.weights!r} is not accepted with"
                f" {network.backbone}, which was never trained on ImageNet; set it to"
                " 'random'."
            )
        if training.scale_min > training.scale_max:
            raise MessError(
                f"training.scale_min = {training.scale_min:g} is larger than"
                f" scale_max = {training.scale_max:g}; swap them."
            )
        if training.batch % training.devices:
            raise MessError(
                f"training.batch = {training.batch} cannot be shared by"
                f" {training.devices} devices; make it a multiple of training.devices."
            )
        if training.scheme == "heads-only":
            self._check_heads_only()
        self._check_teacher()
        for policy in self.statistics.policies:
            needs = POLICIES[policy].needs_pixel_threshold
            if needs and not self.statistics.pixel_thresholds:
                raise MessError(
                    f"statistics.pixel_thresholds is empty, but policy {policy!r} needs"
                    " one; add one, e.g. 0.9."
                )
        if all(POLICIES[policy].compares for policy in self.statistics.policies):
            raise MessError(
                "statistics.policies has none for the first exit, which is compared"
                " with no earlier one; add another, e.g. 'mean'."
            )
        self._check_heads()

    def _check_heads_only(self) -> None:
        network = self.network
        if not network.is_imported or self.heads.final != OWN:
            raise MessError(
                "training.scheme = 'heads-only' is not accepted with network.backbone ="
                f" {as_toml(network.backbone)} and heads.final ="
                f" {as_toml(self.heads.final)}: it trains heads on a finished network."
                " Name the network's .keras file as network.backbone, with heads.final"
                " = 'own'; or take another scheme."
            )
        if network.weights == "random":
            raise MessError(
                "training.scheme = 'heads-only' is not accepted with network.weights ="
                " 'random', since nothing of the network is trained; accepted: 'own',"
                " or another .keras file of it."
            )

    def _check_teacher(self) -> None:
        training = self.training
        if not training.teacher and training.taught != Training().taught:
            raise MessError(
                f"training.taught = {as_toml(training.taught)} needs a teacher; name a"
                " trained run's folder as training.teacher, or leave taught out."
            )
        if training.teacher and "early" in training.taught and training.loss == "ce":
            raise MessError(
                f"training.taught = {as_toml(training.taught)} is not accepted with"
                " training.loss = 'ce', in which nobody teaches early exits; accepted"
                " losses: 'kd', 'pfd', 'pfd-full'."
            )

    def _check_own_network(self) -> None:
        network = self.network
        if not (network.mean and network.std):
            raise MessError(
                "network.mean or network.std is missing; say how your network takes"
                " images, (RGB value in 0..255 - mean) / std: e.g. mean = [0, 0, 0] and"
                " std = [255, 255, 255] for 0..1."
            )
        if network.weights == "imagenet":
            raise MessError(
                "network.weights = 'imagenet' is not accepted with a network of your"
                " own; accepted: 'own' (those in its file), 'random', or another file."
            )
        if network.output_stride != Network().output_stride:
            raise MessError(
                f"network.output_stride = {network.output_stride} is not accepted with"
                " a network of your own, which has its own; leave it out."
            )
        if self.training.mixed_precision:
            raise MessError(
                "training.mixed_precision = true is not accepted with a network of your"
                " own, whose layers say themselves what they compute in; leave it out."
            )

    def _check_heads(self) -> None:
        final, early = self.network.max_exits, self.heads.early_heads()
        ids = [head.id for head in self.heads.final_heads()]
        if len(ids) != len(set(ids)):
            raise MessError("heads.more_final repeats the final head; name it once.")
        if OWN in ids and not self.network.is_imported:
            raise MessError(
                "heads.final = 'own' needs a network of your own; with"
                f" {self.network.backbone} take e.g. 'fcn_r1_b0'."
            )
        _check_skips("final", final, self.heads.final_heads())
        if isinstance(early, Mapping):
            for index, heads in early.items():
                if index >= final:
                    raise MessError(
                        f"heads.early names exit point {index}; early exit points here"
                        f" are 1 to {final - 1}, the final one is {final}."
                    )
                _check_skips(f"early.{index}", index, heads)
        else:
            # A common list serves every early exit point; a head must fit the deepest.
            _check_skips("early", final - 1, early)

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> Recipe:
        """Makes a recipe of parsed TOML.

        Raises:
            MessError: an unknown section or key, or a value that breaks its rule.
        """
        for key in table:
            if key not in SECTIONS:
                raise MessError(unknown_key(f"Section [{key}]", key, SECTIONS))
        sections: dict[str, Any] = {
            name: read_section(kind, table.get(name, {}))
            for name, kind in SECTIONS.items()
        }
        return cls(**sections)

    def to_table(self) -> dict[str, dict[str, Any]]:
        """Every setting, by section; ``from_table`` reads it back."""
        return dataclasses.asdict(self)

    def differences(
        self, other: Recipe, sections: Sequence[str] | None = None
    ) -> list[str]:
        """Settings in which two recipes differ, as ``training.seed: 0 against 1``."""
        mine, theirs = self.to_table(), other.to_table()
        return [
            f"{section}.{key}: {as_toml(value)} against {as_toml(theirs[section][key])}"
            for section in sections or mine
            for key, value in mine[section].items()
            if value != theirs[section][key]
        ]


def _check_skips(key: str, index: int, heads: Sequence[HeadSpec]) -> None:
    for head in heads:
        if any(not 1 <= skip < index for skip in head.skips):
            accepted = f"1 to {index - 1}" if index > 1 else "none: it is the first"
            raise MessError(
                f"heads.{key} has {head.id!r}, whose skips are not all exit points"
                f" before exit {index}; accepted: {accepted}."
            )

"""The int8 graph of a network: fused operators, rounded values, shared scales.

In the deployed graph a convolution takes its batch normalisation and activation in;
what lies between is never rounded, so training must not round it either. And operators
that only move values (concatenation, resizing, pooling, padding) have one scale before
and behind, as LiteRT's kernels demand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mess_tf.quantising.network_graph import Network, Node

CONVOLUTIONS = ("conv", "depthwise", "transposed")
_DATA_MOVEMENT = ("concat", "upsample", "pool_max", "pool_average", "pad", "crop")
_WITH_ACTIVATION = ("conv", "depthwise", "norm", "add")
"""LiteRT runs these with a ReLU inside; a transposed convolution has none."""


@dataclass(frozen=True, eq=False)
class Int8Operator:
    """One operator of the int8 graph: a node with the nodes fused into it.

    Attributes:
        node: what is computed.
        norm: batch normalisation folded into ``node``'s weights.
        relu: activation inside the operator.
        inputs: values read, by operator name.
        ranges: operators whose observed ranges together give this value's range.
        observed: whether the value's observed range counts among them.
        rounded: whether training has to round the value; moved values lie on the grid
            already unless they were averaged, interpolated or come from another grid.
    """

    node: Node
    norm: Node | None
    relu: Node | None
    inputs: tuple[str, ...]
    ranges: tuple[str, ...]
    observed: bool
    rounded: bool

    @property
    def name(self) -> str:
        """Name of the value: of the last fused node."""
        return (self.relu or self.norm or self.node).name


@dataclass(frozen=True, eq=False)
class Int8Graph:
    """The int8 graph of a network; operators are in topological order."""

    network: Network
    operators: tuple[Int8Operator, ...]

    @property
    def observed(self) -> tuple[str, ...]:
        """Names of the values whose ranges are observed."""
        return tuple(operator.name for operator in self.operators if operator.observed)

    def by_name(self) -> dict[str, Int8Operator]:
        return {operator.name: operator for operator in self.operators}


def build_int8_graph(network: Network) -> Int8Graph:
    """The int8 graph of a network: fuses nodes and assigns scales."""
    folded_into = _folded(network)
    chains = [
        _chain(network, node, folded_into)
        for node in network.nodes
        if node.name not in folded_into.values()
    ]
    values = [chain[-1].name for chain in chains]
    ranges, requantising = _ranges(network, chains)
    operators = [
        Int8Operator(
            node=chain[0],
            norm=next((n for n in chain[1:] if n.kind == "norm"), None),
            relu=next((n for n in chain[1:] if n.kind == "relu"), None),
            inputs=chain[0].inputs,
            ranges=ranges[name],
            observed=chain[0].kind not in _DATA_MOVEMENT,
            rounded=_is_rounded(chain[0], name in requantising),
        )
        for name, chain in zip(values, chains, strict=True)
    ]
    return Int8Graph(network, tuple(operators))


def _folded(network: Network) -> dict[str, str]:
    """Node -> the node behind it that is fused into the same operator."""
    folded: dict[str, str] = {}
    for name, readers in network.consumers().items():
        node = network[name]
        if len(readers) != 1 or name in network.outputs:
            continue
        reader = readers[0]
        if reader.kind == "norm" and node.kind in CONVOLUTIONS:
            folded[name] = reader.name
        elif reader.kind == "relu" and _has_activation(network, node, folded):
            folded[name] = reader.name
    return folded


def _has_activation(network: Network, node: Node, folded: Mapping[str, str]) -> bool:
    if node.kind == "norm" and folded.get(node.inputs[0]) == node.name:
        return network[node.inputs[0]].kind in _WITH_ACTIVATION
    return node.kind in _WITH_ACTIVATION


def _chain(network: Network, node: Node, folded: Mapping[str, str]) -> list[Node]:
    chain = [node]
    while chain[-1].name in folded:
        chain.append(network[folded[chain[-1].name]])
    return chain


def _is_rounded(node: Node, requantises: bool) -> bool:
    if node.kind not in _DATA_MOVEMENT:
        return True
    if node.kind == "upsample":
        return node.settings["interpolation"] != "nearest"
    return node.kind == "pool_average" or requantises


def _ranges(
    network: Network, chains: list[list[Node]]
) -> tuple[dict[str, tuple[str, ...]], set[str]]:
    """Per value, whose ranges make its range; and concatenations that requantise.

    What only a concatenation reads gets the concatenation's scale. A value that others
    read too has a separate scale and is requantised for the concatenation.
    """
    consumers = network.consumers()
    group = {chain[-1].name: {chain[-1].name} for chain in chains}
    requantised: list[tuple[str, str]] = []
    for chain in chains:
        name, node = chain[-1].name, chain[0]
        if node.kind not in _DATA_MOVEMENT:
            continue
        for given in node.inputs:
            alone = len(consumers[given]) == 1 and given not in network.outputs
            if node.kind == "concat" and not alone:
                requantised.append((given, name))
            elif group[given] is not group[name]:
                joined = group[given] | group[name]
                group.update(dict.fromkeys(joined, joined))
    sources = {
        name: {c[-1].name for c in chains if c[-1].name in members}
        - {c[-1].name for c in chains if c[0].kind in _DATA_MOVEMENT}
        for name, members in group.items()
    }
    changed = True
    while changed:  # a range covers those requantised to it, which may cover others
        changed = False
        for given, name in requantised:
            for member in group[name]:
                if not sources[given] <= sources[member]:
                    sources[member] |= sources[given]
                    changed = True
    order = [chain[-1].name for chain in chains]
    ranges = {name: tuple(sorted(sources[name], key=order.index)) for name in group}
    return ranges, {name for _, name in requantised}

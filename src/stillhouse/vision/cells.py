"""Networks of one repeated cell, in the manner of NAS-Bench-201 (arXiv 2001.00326).

A cell has four nodes; node j sums an operation on every earlier node's output. Its string lists them node by node:
"|nor_conv_3x3~0|+|skip_connect~0|none~1|+|avg_pool_3x3~0|none~1|nor_conv_1x1~2|".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor, nn

from stillhouse.core.errors import UserError

if TYPE_CHECKING:
    from jaxtyping import Float

Operation = Literal["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"]
OPERATIONS: tuple[Operation, ...] = get_args(Operation)
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
"""(from, to), in the order of a cell's string."""
COST = {"nor_conv_3x3": 9, "nor_conv_1x1": 1}
Cell = tuple[Operation, ...]
"""An operation for each of `EDGES`."""


def cell_of(string: str) -> Cell:
    """The cell that a string of NAS-Bench-201 describes.

    Raises:
        UserError: it is not one.
    """
    found = tuple(re.findall(r"\|?([a-z0-9_]+)~(\d)", string))
    wanted = tuple(str(start) for start, _ in EDGES)
    operations = tuple(operation for operation, _ in found)
    if tuple(start for _, start in found) != wanted or not set(operations) <= set(OPERATIONS):
        raise UserError(f"{string!r} is no cell of NAS-Bench-201", "see the README of the table it comes from")
    return operations


def string_of(cell: Cell) -> str:
    """The string of NAS-Bench-201 that describes a cell."""
    by_node = [[f"{cell[i]}~{a}" for i, (a, b) in enumerate(EDGES) if b == node] for node in (1, 2, 3)]
    return "+".join(f"|{'|'.join(part)}|" for part in by_node)


def live_edges(cell: Cell) -> tuple[bool, ...]:
    """Which edges lie on a path from the cell's input to its output."""
    from_input, to_output = {0}, {3}
    kept = [(i, edge) for i, edge in enumerate(EDGES) if cell[i] != "none"]
    for _, (start, end) in kept:  # in topological order
        if start in from_input:
            from_input.add(end)
    for _, (start, end) in sorted(kept, key=lambda one: one[1], reverse=True):
        if end in to_output:
            to_output.add(start)
    live = {i for i, (start, end) in kept if start in from_input and end in to_output}
    return tuple(i in live for i in range(len(EDGES)))


def live_cost(cell: Cell) -> int:
    """9 for each 3 x 3 and 1 for each 1 x 1 convolution on a live edge: parameters and MACs are monotone in it."""
    return sum(COST.get(operation, 0) for operation, live in zip(cell, live_edges(cell), strict=True) if live)


class Zero(nn.Module):
    """No connection: zeros, so that what follows keeps its shape."""

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        return torch.zeros_like(x)


class CellBlock(nn.Module):
    """One cell: the operations of its edges, summed at its nodes."""

    def __init__(self, cell: Cell, width: int) -> None:
        super().__init__()
        self.edges = nn.ModuleList(operation_module(operation, width) for operation in cell)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        nodes = [x]
        for node in (1, 2, 3):
            into = [(i, start) for i, (start, end) in enumerate(EDGES) if end == node]
            nodes.append(sum((self.edges[i](nodes[start]) for i, start in into), torch.zeros(())))
        return nodes[3]


class Reduction(nn.Module):
    """A residual block that halves the image and widens it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*_relu_conv(inputs, outputs, 3, 2), *_relu_conv(outputs, outputs, 3, 1))
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False), nn.Conv2d(inputs, outputs, 1, bias=False)
        )

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h2 w2"]:
        return self.body(x) + self.shortcut(x)


class CellNetwork(nn.Module):
    """Stem, three stages of `depth` cells with a reduction between them, average, linear."""

    def __init__(self, channels: int, classes: int, cell: Cell, width: int = 16, depth: int = 5) -> None:
        super().__init__()
        blocks: list[nn.Module] = [nn.Conv2d(channels, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)]
        for stage in range(3):
            if stage:
                blocks.append(Reduction(width << (stage - 1), width << stage))
            blocks += [CellBlock(cell, width << stage) for _ in range(depth)]
        self.body = nn.Sequential(*blocks, nn.BatchNorm2d(4 * width), nn.ReLU())
        self.classifier = nn.Linear(4 * width, classes)

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        return self.classifier(self.body(images).mean((2, 3)))


def cells(
    channels: int,
    classes: int,
    *,
    edge01: Operation = "nor_conv_3x3",
    edge02: Operation = "skip_connect",
    edge12: Operation = "nor_conv_3x3",
    edge03: Operation = "skip_connect",
    edge13: Operation = "none",
    edge23: Operation = "nor_conv_3x3",
    width: Literal[16] = 16,
    depth: Literal[1] = 1,
) -> nn.Module:
    """Space: the 15,625 cells of NAS-Bench-201, in networks of one cell a stage."""
    return CellNetwork(channels, classes, (edge01, edge02, edge12, edge03, edge13, edge23), width, depth)


def cell_description(cell: Cell) -> dict[str, str]:
    """A cell as the options of `cells`."""
    return {f"edge{start}{end}": operation for (start, end), operation in zip(EDGES, cell, strict=True)}


def described_cell(description: Mapping[str, object]) -> Cell:
    """The cell among the options of `cells`."""
    return tuple(description[f"edge{start}{end}"] for start, end in EDGES)  # type: ignore[misc]


def operation_module(operation: Operation, width: int) -> nn.Module:
    """A cell's operation at one width."""
    match operation:
        case "none":
            return Zero()
        case "skip_connect":
            return nn.Identity()
        case "avg_pool_3x3":
            return nn.AvgPool2d(3, 1, 1, count_include_pad=False)
        case "nor_conv_1x1":
            return nn.Sequential(*_relu_conv(width, width, 1, 1))
        case "nor_conv_3x3":
            return nn.Sequential(*_relu_conv(width, width, 3, 1))


def _relu_conv(inputs: int, outputs: int, kernel: int, stride: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.ReLU(), convolution, nn.BatchNorm2d(outputs)

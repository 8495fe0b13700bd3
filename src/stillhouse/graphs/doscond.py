"""DosCond, the gradient-matching baseline: a few dense graphs a class whose gradients on fresh networks match the data's.

Source: Jin et al., "Condensing Graphs via One-Step Gradient Matching" (KDD 2022, arXiv 2206.07746), settings of its
released graph-classification runs: structure is a Bernoulli adjacency with learned logits, sampled as a binary concrete,
node features are free real numbers, every iteration meets a freshly initialised GCN and takes no inner step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn
from torch.nn import functional

from stillhouse.core.errors import require
from stillhouse.core.seeding import derive_seed, generator
from stillhouse.graphs.data import GraphSet
from stillhouse.graphs.dense import DenseGraphs, dense_start
from stillhouse.graphs.material import sparse_tensor
from stillhouse.graphs.trees import bags
from stillhouse.graphs.words import Words


@dataclass(frozen=True)
class DosCondOptions:
    """Settings of the released NCI1 run."""

    graphs_per_class: int = 1
    iterations: int = 1000
    real_batch: int = 256
    """Real graphs a class in each iteration."""
    structure_rate: float = 1.0
    feature_rate: float = 0.01
    density_weight: float = 0.1
    width: int = 128
    layers: int = 3


def doscond(graphs: GraphSet, words: Words, options: DosCondOptions, seed: int) -> DenseGraphs:
    """Condense a training set; the learned graphs, edges where their probability passes 1/2.

    Raises:
        UserError: no graphs a class.
    """
    require(options.graphs_per_class >= 1, f"graphs_per_class is {options.graphs_per_class}", "give one or more")
    random = generator("doscond", seed)
    start = dense_start(graphs, words, options.graphs_per_class, seed)
    structure = (10 * start.adjacency - 5).requires_grad_()
    features = start.x.clone().requires_grad_()
    by_class = [np.flatnonzero(graphs.classes == c) for c in range(len(graphs.class_names))]
    inputs = torch.from_numpy(words.features())
    optimizer = torch.optim.Adam(
        [{"params": [structure], "lr": options.structure_rate}, {"params": [features], "lr": options.feature_rate}]
    )
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [400], gamma=0.1)
    density = float(start.adjacency.mean())
    for iteration in range(options.iterations):
        torch.manual_seed(derive_seed("doscond network", seed, iteration))
        network = DenseGCN(features.shape[2], options.width, options.layers, len(by_class))
        adjacency = _concrete(_symmetric(structure), _temperature(iteration), random)
        loss = torch.zeros(())
        for c, members in enumerate(by_class):
            mine = start.classes == c
            drawn = torch.randperm(len(members), generator=random)[: options.real_batch].numpy()
            real = graphs.select(members[drawn])
            wanted = _gradients(network, network.on_real(real, inputs[words.of_nodes(real)]), c, keep=False)
            given = _gradients(
                network, network.on_dense(features[mine], adjacency[mine], start.mask[mine]), c, keep=True
            )
            loss = loss + _distance(wanted, given)
        dense = _symmetric(structure).sigmoid().mean()
        loss = loss + options.density_weight * functional.relu(dense - density)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    learned = (_symmetric(structure.detach()).sigmoid() > 0.5).float()
    return DenseGraphs(features.detach(), learned, start.mask, start.classes)


class DenseGCN(nn.Module):
    """GCN with mean pooling, on real graphs (sparse) and on padded dense ones."""

    def __init__(self, features: int, width: int, layers: int, classes: int) -> None:
        super().__init__()
        sizes = [features] + [width] * layers
        self.linears = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.head = nn.Linear(width, classes)

    def on_dense(self, x: Tensor, adjacency: Tensor, mask: Tensor) -> Tensor:
        """[graphs, classes] from [graphs, nodes, features], [graphs, nodes, nodes] and [graphs, nodes]."""
        looped = adjacency + torch.eye(adjacency.shape[1])
        scale = looped.sum(2).clamp(min=1e-6).rsqrt() * mask
        normalised = scale.unsqueeze(2) * looped * scale.unsqueeze(1)
        x = self._layers(x, lambda h: normalised @ h)
        return self.head((x * mask.unsqueeze(2)).sum(1) / mask.sum(1, keepdim=True))

    def on_real(self, graphs: GraphSet, x: Tensor) -> Tensor:
        """[graphs, classes] from real graphs and [nodes, features]."""
        loops = np.arange(graphs.nodes)
        rows, columns = np.concatenate([graphs.targets, loops]), np.concatenate([graphs.sources, loops])
        scale = (graphs.degrees + 1.0) ** -0.5
        weights = scale[rows] * scale[columns]
        normalised = sparse_tensor(sp.coo_array((weights, (rows, columns)), shape=(graphs.nodes, graphs.nodes)).tocsr())
        pooled = sparse_tensor(bags(loops, graphs, graphs.nodes)) @ self._layers(x, lambda h: normalised @ h)
        return self.head(pooled / torch.from_numpy(graphs.sizes).float().unsqueeze(1))

    def _layers(self, x: Tensor, propagate: Callable[[Tensor], Tensor]) -> Tensor:
        for linear in self.linears:
            x = propagate(linear(x)).relu()
        return x


def _gradients(network: DenseGCN, logits: Tensor, c: int, *, keep: bool) -> list[Tensor]:
    loss = functional.cross_entropy(logits, torch.full((len(logits),), c))
    return list(torch.autograd.grad(loss, list(network.parameters()), create_graph=keep))


def _distance(wanted: list[Tensor], given: list[Tensor]) -> Tensor:
    """Squared difference over squared real gradient, summed over parameters."""
    differences = torch.stack([((a - b) ** 2).sum() for a, b in zip(wanted, given, strict=True)])
    return differences.sum() / torch.stack([(a**2).sum() for a in wanted]).sum()


def _symmetric(logits: Tensor) -> Tensor:
    return (logits + logits.transpose(1, 2)) / 2


def _concrete(logits: Tensor, temperature: float, random: torch.Generator) -> Tensor:
    """Binary concrete sample, symmetric (Maddison et al. 2017)."""
    uniform = torch.rand(logits.shape, generator=random).clamp(1e-6, 1 - 1e-6)
    noise = torch.triu(uniform.log() - (1 - uniform).log(), 1)
    sampled = ((logits + noise + noise.transpose(1, 2)) / temperature).sigmoid()
    return sampled * (1 - torch.eye(logits.shape[1]))


def _temperature(iteration: int) -> float:
    """1 to .01 over 200 iterations."""
    return float(max(0.01, 1 - 0.99 * iteration / 200))

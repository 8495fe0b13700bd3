"""KIDD, the kernel baseline: a few graphs a class that predict the training set well by kernel ridge regression.

    prediction = K_TS (K_SS + 1e-6 I)^-1 Y_S        loss = cross entropy + 1e-3 |K_SS - I|

K is LiteGNTK: the graph neural tangent kernel of a 5-layer network with ReLU, without its gradient part, here with
degree-normalised aggregation and scaled to K(G, G) = 1. Only node features are learned; structure stays a real graph's, as
in most released settings. Source: Xu et al., "Kernel Ridge Regression-Based Graph Dataset Distillation" (KDD 2023).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from stillhouse.core.seeding import generator
from stillhouse.graphs.data import GraphSet
from stillhouse.graphs.dense import DenseGraphs, dense_real, dense_start
from stillhouse.graphs.words import Words

SMALLEST = 1e-8


@dataclass(frozen=True)
class KiddOptions:
    """Settings of the released runs."""

    graphs_per_class: int = 1
    epochs: int = 300
    batch: int = 256
    feature_rate: float = 0.01
    orthogonality: float = 1e-3
    ridge: float = 1e-6
    layers: int = 5
    size_factor: float = 2.0
    """Real graphs are cut off at this many mean sizes."""


@dataclass(frozen=True)
class _Kernelled:
    """Graphs ready for the kernel: aggregation, features, and the kernel's own diagonals at each layer."""

    aggregate: Tensor
    """[graphs, nodes, nodes], row-normalised with self-loops."""
    x: Tensor
    mask: Tensor
    diagonals: tuple[Tensor, ...]
    """Each [graphs, nodes]: K(v, v) before each layer's ReLU."""
    own: Tensor
    """[graphs] K(G, G)."""


def kidd(graphs: GraphSet, words: Words, options: KiddOptions, seed: int) -> DenseGraphs:
    """Condense a training set."""
    random = generator("kidd", seed)
    start = dense_start(graphs, words, options.graphs_per_class, seed)
    real = dense_real(graphs, words, round(options.size_factor * float(graphs.sizes.mean())))
    parts = [
        _kernelled(real.x[i : i + 256], real.adjacency[i : i + 256], real.mask[i : i + 256], options.layers)
        for i in range(0, len(real.x), 256)
    ]
    prepared = _joined(parts)
    features = start.x.clone().requires_grad_()
    optimizer = torch.optim.Adam([features], lr=options.feature_rate)
    targets = functional.one_hot(start.classes, len(graphs.class_names)).float()
    for _ in range(options.epochs):
        for chosen in torch.randperm(len(real.x), generator=random).split(options.batch):
            mine = _kernelled(features, start.adjacency, start.mask, options.layers)
            own = _kernel(mine, mine)
            across = _kernel(_chosen(prepared, chosen), mine)
            identity = torch.eye(len(own))
            predicted = across @ torch.linalg.solve(own + options.ridge * identity, targets)
            loss = functional.cross_entropy(predicted, real.classes[chosen])
            loss = loss + options.orthogonality * (own - identity).norm()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return DenseGraphs(features.detach(), start.adjacency, start.mask, start.classes)


def _kernelled(x: Tensor, adjacency: Tensor, mask: Tensor, layers: int) -> _Kernelled:
    looped = (adjacency + torch.eye(adjacency.shape[1])) * mask.unsqueeze(1) * mask.unsqueeze(2)
    aggregate = looped / looped.sum(2, keepdim=True).clamp(min=1)
    covariance = x @ x.transpose(1, 2)
    diagonals = []
    for _ in range(layers):
        covariance = aggregate @ covariance @ aggregate.transpose(1, 2)
        diagonal = covariance.diagonal(dim1=1, dim2=2)
        diagonals.append(diagonal)
        covariance = _relu_kernel(covariance, diagonal.unsqueeze(2), diagonal.unsqueeze(1))
    return _Kernelled(aggregate, x, mask, tuple(diagonals), _readout(covariance, mask, mask))


def _kernel(left: _Kernelled, right: _Kernelled) -> Tensor:
    """[left graphs, right graphs] normalised kernel."""
    covariance = torch.einsum("inf,jmf->ijnm", left.x, right.x)
    for a, b in zip(left.diagonals, right.diagonals, strict=True):
        covariance = left.aggregate.unsqueeze(1) @ covariance @ right.aggregate.transpose(1, 2).unsqueeze(0)
        covariance = _relu_kernel(covariance, a[:, None, :, None], b[None, :, None, :])
    summed = torch.einsum("in,ijnm,jm->ij", left.mask, covariance, right.mask)
    return summed / (left.own.unsqueeze(1) * right.own.unsqueeze(0)).clamp(min=SMALLEST).sqrt()


def _relu_kernel(covariance: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Arc-cosine kernel of degree 1 (Cho and Saul 2009), scaled to keep diagonals."""
    scale = (left * right).clamp(min=SMALLEST).sqrt()
    cosine = (covariance / scale).clamp(-1 + 1e-5, 1 - 1e-5)
    return scale * ((1 - cosine**2).sqrt() + cosine * (math.pi - cosine.acos())) / math.pi


def _readout(covariance: Tensor, left: Tensor, right: Tensor) -> Tensor:
    return torch.einsum("in,inm,im->i", left, covariance, right)


def _chosen(graphs: _Kernelled, which: Tensor) -> _Kernelled:
    return _Kernelled(
        graphs.aggregate[which],
        graphs.x[which],
        graphs.mask[which],
        tuple(diagonal[which] for diagonal in graphs.diagonals),
        graphs.own[which],
    )


def _joined(parts: list[_Kernelled]) -> _Kernelled:
    return _Kernelled(
        torch.cat([part.aggregate for part in parts]),
        torch.cat([part.x for part in parts]),
        torch.cat([part.mask for part in parts]),
        tuple(torch.cat(layer) for layer in zip(*(part.diagonals for part in parts), strict=True)),
        torch.cat([part.own for part in parts]),
    )

"""Zero-cost proxies of the literature for comparison, all larger is better; a network that is not connected scores -inf.

grad_norm  sum over layers |dL/dw|                         snip   sum |w dL/dw|          fisher  sum over channels (sum a dL/da)^2 / 2
grasp      - sum w (H dL/dw)                               synflow  log sum |w dR/dw|, R of |w| at an input of ones, no normalisation
jacob_cov  - sum log(l + k) + 1/(l + k), l of the correlation of input gradients   nwot   log |K|, K counts equal ReLU codes
zen        log of the change of the last map under input noise, N(0,1) weights, with the deviations that normalisation divides out
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from stillhouse.vision.classes import Batch
from stillhouse.vision.costs import layer_macs
from stillhouse.vision.maps import watched

RECTIFIERS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.SiLU, nn.GELU, nn.Hardswish)
DISCONNECTED = -math.inf


def layers(network: nn.Module) -> list[tuple[str, nn.Conv2d | nn.Linear]]:
    """The convolutions and linear layers."""
    return [(name, m) for name, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]


def gradients(network: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """(weight, gradient) of every layer that got one in the last backward pass."""
    weights = [layer.weight for _, layer in layers(network)]
    return [(w.detach(), w.grad) for w in weights if w.grad is not None]


def grad_norm(network: nn.Module) -> float:
    """After a backward pass of the loss."""
    return float(sum(grad.norm() for _, grad in gradients(network)))


def snip(network: nn.Module) -> float:
    """After a backward pass of the loss."""
    return float(sum((weight * grad).abs().sum() for weight, grad in gradients(network)))


def nwot(codes: list[Tensor]) -> float:
    """log |K| of K_ij = number of units whose sign agrees on samples i and j; codes are the rectifiers' inputs, [B, ...]."""
    if not codes:
        return DISCONNECTED
    kernel = torch.zeros(len(codes[0]), len(codes[0]), dtype=torch.float64)
    for values in codes:
        on = (values.flatten(1) > 0).float()
        both = (on @ on.T + (1 - on) @ (1 - on).T).double()
        kernel += both
    sign, size = torch.linalg.slogdet(kernel)
    return float(size) if float(sign) > 0 and math.isfinite(float(size)) else DISCONNECTED


@contextmanager
def rectifier_inputs(network: nn.Module) -> Iterator[list[Tensor]]:
    """A list that forward passes extend by the input of every rectifier."""
    seen: list[Tensor] = []
    rectifiers = [m for m in network.modules() if isinstance(m, RECTIFIERS)]
    handles = [m.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0].detach())) for m in rectifiers]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def fisher(network: nn.Module, batch: Batch) -> float:
    """In a forward and a backward pass of its own."""
    names = [name for name, _ in layers(network)]
    with watched(network, names) as outputs:
        loss = nn.functional.cross_entropy(network(batch.images), batch.labels)
        kept = [value for value in outputs.values() if value.requires_grad]
    found = torch.autograd.grad(loss, kept, allow_unused=True)
    total = 0.0
    for value, grad in zip(kept, found, strict=True):
        if grad is not None:
            by_channel = (value * grad).flatten(2).sum(2) if value.ndim == 4 else value * grad
            total += float(by_channel.detach().square().mean(0).sum()) / 2
    return total


def grasp(network: nn.Module, batch: Batch) -> float:
    """In a forward pass with second derivatives of its own."""
    weights = [layer.weight for _, layer in layers(network)]
    loss = nn.functional.cross_entropy(network(batch.images), batch.labels)
    first = torch.autograd.grad(loss, weights, create_graph=True, allow_unused=True)
    used = [(w, g) for w, g in zip(weights, first, strict=True) if g is not None and g.requires_grad]
    if not used:
        return DISCONNECTED
    product = sum((g * g.detach()).sum() for _, g in used)
    second = torch.autograd.grad(product, [w for w, _ in used], allow_unused=True)  # type: ignore[arg-type]
    return -float(sum((w.detach() * h).sum() for (w, _), h in zip(used, second, strict=True) if h is not None))


def jacob_cov(network: nn.Module, batch: Batch, k: float = 1e-5) -> float:
    """In a forward and a backward pass of its own."""
    images = batch.images.clone().requires_grad_()
    (jacobian,) = torch.autograd.grad(network(images).sum(), images)
    rows = jacobian.flatten(1).double()
    if not bool((rows.std(1) > 0).all()):
        return DISCONNECTED
    values = torch.linalg.eigvalsh(torch.corrcoef(rows)).clamp_min(0)
    return -float((torch.log(values + k) + 1 / (values + k)).sum())


def synflow(network: nn.Module, batch: Batch) -> tuple[float, int]:
    """(log of SynFlow, live MACs): on absolute weights in double precision, without normalisation, at one image of ones.

    A layer whose weights get no gradient there lies on no path from input to output: its MACs are not live.
    """
    linear = _linearised(network)
    for weight in linear.parameters():
        weight.data.abs_()
    linear(
        torch.ones(1, *batch.shape, dtype=torch.float64)
    ).sum().backward()  # one image: the flow is that of any size of batch
    found = {name: layer.weight for name, layer in layers(linear)}
    flows = {name: float((w.detach() * w.grad).abs().sum()) if w.grad is not None else 0.0 for name, w in found.items()}
    total = sum(flows.values())
    macs = layer_macs(network, batch.shape)
    live = sum(count for name, count in macs.items() if flows.get(name, 0.0) > 0)
    first = next(iter(flows))
    return (math.log(total) if total > 0 and flows[first] > 0 else DISCONNECTED), live


def _linearised(network: nn.Module) -> nn.Module:
    """A copy in double precision whose normalisation and rectifiers are the identity."""
    twin = copy.deepcopy(network).double().eval()
    for parent in list(twin.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d | nn.ReLU6 | nn.SiLU | nn.GELU | nn.Hardswish):
                setattr(parent, name, nn.Identity())
    for weight in twin.parameters():
        weight.grad = None
    return twin


@torch.no_grad()
def zen(network: nn.Module, batch: Batch, map_name: str, noise: float = 0.01) -> float:
    """On a copy with N(0,1) weights, at two Gaussian inputs `noise` apart; the normalisations' batch variances are added back."""
    twin = copy.deepcopy(network).train()
    for _, layer in layers(twin):
        layer.weight.normal_()
    variances: list[float] = []
    for module in twin.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_pre_hook(
                lambda _m, inputs: variances.append(float(inputs[0].var((0, 2, 3)).mean()))
            )
    images = torch.randn(batch.images.shape)
    maps = []
    with watched(twin, [map_name]) as seen:
        for extra in (0.0, noise):
            twin(images + extra * torch.randn(images.shape))
            maps.append(seen[map_name])
    change = float((maps[0] - maps[1]).abs().flatten(1).sum(1).mean())
    if change <= 0 or min(variances, default=1.0) < 0:
        return DISCONNECTED
    half = len(variances) // 2
    return math.log(change) + sum(0.5 * math.log(v + 1e-12) for v in variances[:half])

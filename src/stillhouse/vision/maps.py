"""What modules inside a network give out, by their names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from stillhouse.core.errors import require

if TYPE_CHECKING:
    from jaxtyping import Float


def module_named(network: nn.Module, name: str) -> nn.Module:
    """The module of that name.

    Raises:
        UserError: there is none.
    """
    found = dict(network.named_modules()).get(name)
    require(found is not None, f"the network has no module {name!r}", f"it has {', '.join(list(_names(network))[-8:])}")
    assert found is not None
    return found


def _names(network: nn.Module) -> Iterator[str]:
    return (name for name, _ in network.named_modules() if name)


def classifier_name(network: nn.Module) -> str:
    """Name of the last linear layer.

    Raises:
        UserError: there is none.
    """
    linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    require(
        bool(linear), "the network has no linear layer to classify with", "name the module that gives the class scores"
    )
    return linear[-1]


@torch.no_grad()
def map_names(network: nn.Module, shape: tuple[int, int, int]) -> list[str]:
    """Names of the modules that give out a map [n c h w] of more than one pixel, in the order in which they finish."""
    finished: list[str] = []
    with _hooked(
        network, list(_names(network)), lambda name, output: finished.append(name) if _is_map(output) else None
    ):
        training = network.training
        network.eval()(torch.zeros(1, *shape))
        network.train(training)
    return finished


def last_map_name(network: nn.Module, shape: tuple[int, int, int]) -> str:
    """Name of the module whose map is the last before pooling.

    Raises:
        UserError: the network has no maps (no convolutions).
    """
    names = map_names(network, shape)
    require(bool(names), "the network has no feature maps", "give one with convolutions, or name the module to look at")
    return names[-1]


def stage_map_names(network: nn.Module, shape: tuple[int, int, int]) -> list[str]:
    """The last module at each spatial size, largest first."""
    sizes: dict[tuple[int, ...], str] = {}

    def note(name: str, output: Any) -> None:
        if _is_map(output):
            sizes[tuple(output.shape[2:])] = name

    with torch.no_grad(), _hooked(network, list(_names(network)), note):
        training = network.training
        network.eval()(torch.zeros(1, *shape))
        network.train(training)
    return [sizes[size] for size in sorted(sizes, reverse=True)]


@contextmanager
def watched(network: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """A dict that every forward pass fills with the outputs of the named modules.

    Raises:
        UserError: there is no module of a name.
    """
    seen: dict[str, Tensor] = {}

    def note(name: str, output: Any) -> None:
        seen[name] = output

    for name in names:
        module_named(network, name)
    with _hooked(network, names, note):
        yield seen


@contextmanager
def _hooked(network: nn.Module, names: Sequence[str], note: Callable[[str, Any], None]) -> Iterator[None]:
    modules = dict(network.named_modules())
    handles = [modules[name].register_forward_hook(lambda _m, _i, out, n=name: note(n, out)) for name in names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _is_map(output: Any) -> bool:
    return isinstance(output, Tensor) and output.ndim == 4 and output.shape[2] * output.shape[3] > 1


def pooled(maps: Float[Tensor, "n c h w"], size: tuple[int, int]) -> Float[Tensor, "n c h2 w2"]:
    """Maps averaged down (or repeated up) to another size."""
    return maps if tuple(maps.shape[2:]) == size else nn.functional.adaptive_avg_pool2d(maps, size)

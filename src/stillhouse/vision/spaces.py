"""Architecture spaces: one function from a description to a network, whose keyword options are the choices.

    def networks(channels: int, classes: int, *, depth: Literal[1, 2, 3] = 1, width: Literal[16, 32] = 16) -> nn.Module: ...

is a space of six networks. A description is a dict of its options; sampling, mutation and crossover follow from the types.
"""

from __future__ import annotations

import importlib
import inspect
import itertools
import json
import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from torch import nn

from stillhouse.core.errors import UserError, first_line, require
from stillhouse.vision.cells import cells
from stillhouse.vision.mobilenets import mobilenets
from stillhouse.vision.resnets import resnets

Description = dict[str, Any]
"""What a network of a space is made from; JSON values."""
BUILT_IN: Mapping[str, Callable[..., nn.Module]] = {"cells": cells, "resnets": resnets, "mobilenets": mobilenets}


@dataclass(frozen=True)
class Space:
    """A set of networks, each described by a choice for every option."""

    name: str
    make: Callable[..., nn.Module]
    """make(channels, classes, **description)"""
    choices: Mapping[str, tuple[Any, ...]]
    """Values of every option, in order."""

    @property
    def size(self) -> int:
        """How many descriptions there are."""
        return math.prod(map(len, self.choices.values()))

    def all(self) -> Iterator[Description]:
        """Every description, the last option changing first."""
        for values in itertools.product(*self.choices.values()):
            yield dict(zip(self.choices, values, strict=True))

    def sample(self, rng: random.Random) -> Description:
        """A description, every option by itself and uniformly."""
        return {option: rng.choice(values) for option, values in self.choices.items()}

    def mutate(self, parent: Description, rng: random.Random) -> Description:
        """The parent with one option changed to another of its values."""
        option = rng.choice([option for option, values in self.choices.items() if len(values) > 1])
        others = [value for value in self.choices[option] if value != parent[option]]
        return {**parent, option: rng.choice(others)}

    def cross(self, one: Description, other: Description, rng: random.Random) -> Description:
        """Each option from one of two parents."""
        return {option: rng.choice((one[option], other[option])) for option in self.choices}

    def build(self, description: Mapping[str, Any], channels: int, classes: int) -> nn.Module:
        """The described network, with whatever initialisation its modules have.

        Raises:
            UserError: an option is unknown, or the space's function fails.
        """
        for option, value in description.items():
            require(
                value in self.choices.get(option, ()),
                f"space {self.name} has no network with {option}={value!r}",
                f"its options are {dict(self.choices)}",
            )
        try:
            network = self.make(channels, classes, **description)
        except Exception as error:
            raise UserError(
                f"space {self.name} cannot build {dict(description)} ({first_line(error)})", "mend its function"
            ) from error
        require(
            isinstance(network, nn.Module),
            f"space {self.name} returned {type(network).__name__}",
            "return a torch module",
        )
        return network


def key_of(description: Mapping[str, Any]) -> str:
    """Text that equal descriptions share."""
    return json.dumps(dict(description), sort_keys=True)


def words_of(description: Mapping[str, Any]) -> str:
    """A description for a table: its values in order."""
    return " ".join(str(value) for value in description.values())


def load_space(name: str) -> Space:
    """A built-in space ("cells", "resnets", "mobilenets"), or one's own as "package.module:function".

    Raises:
        UserError: there is none, or its function's options are not typed as Literal[...].
    """
    if name in BUILT_IN:
        return space_of(BUILT_IN[name], name)
    module_name, _, function = name.partition(":")
    require(bool(function), f"no space {name!r}", f"choose one of {', '.join(BUILT_IN)}, or package.module:function")
    try:
        make = getattr(importlib.import_module(module_name), function)
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"no space at {name} ({first_line(error)})", "check the path, and that it is importable"
        ) from error
    return space_of(make, name)


def space_of(make: Callable[..., nn.Module], name: str = "") -> Space:
    """The space of a function (channels, classes, *, option: Literal[...], ...) -> network.

    Raises:
        UserError: its keyword options are missing, or not typed as Literal[...].
    """
    name = name or make.__qualname__
    hints = get_type_hints(make)
    options = [p.name for p in inspect.signature(make).parameters.values() if p.kind is p.KEYWORD_ONLY]
    require(
        bool(options), f"{name} has no keyword-only options", "write the choices as *, depth: Literal[1, 2] = 1, ..."
    )
    for option in options:
        require(
            get_origin(hints.get(option)) is Literal,
            f"option {option!r} of {name} is not typed as Literal[...]",
            "list its values, e.g. depth: Literal[1, 2, 3] = 1",
        )
    return Space(name, make, {option: get_args(hints[option]) for option in options})

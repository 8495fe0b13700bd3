"""The trained student as a sampler: saved, loaded, and asked for rows, a block at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cattrs
import pandas as pd
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from stillhouse.core.errors import UserError, require
from stillhouse.core.files import read_json, write_atomically, write_json
from stillhouse.core.seeding import derive_seed
from stillhouse.methods.fair_tables.networks import FairVAE, LatentSampler, NoiseSampler, Sees, Syntax
from stillhouse.methods.fair_tables.stages import Data
from stillhouse.methods.fair_tables.table_syntax import TableSyntax
from stillhouse.tables.codec import TableCodec
from stillhouse.tables.schema import Schema, Value

ROWS_AT_ONCE = 20_000
LEAST_ACCEPTED = 1e-3
"""Conditions that fewer generated rows meet are refused rather than waited for."""


@dataclass(frozen=True)
class Shape:
    """What is needed to build the networks again."""

    groups: int
    classes: int
    latent: int
    width: int
    sees: Sees = "x, s, y"


class Student(nn.Module):
    """Noise -> z -> (x, y), with s drawn independently of z: the whole sampler.

    Args:
        vae: the distilled encoder, decoder and label head.
        sampler: noise to latents.
        group_shares: p(s) of the training rows.
    """

    group_shares: Tensor

    def __init__(self, vae: FairVAE, sampler: LatentSampler, group_shares: Float[Tensor, " groups"]) -> None:
        super().__init__()
        self.vae = vae
        self.sampler: LatentSampler = sampler
        self.register_buffer("group_shares", group_shares)

    @torch.no_grad()
    def draw(self, rows: int, syntax: Syntax, groups: Sequence[int] | None = None) -> Data:
        """Encoded rows, by torch's global generator; `groups` restricts s to some group numbers."""
        shares = self.group_shares
        if groups is not None:
            shares = torch.zeros_like(shares).index_put_((torch.tensor(list(groups)),), shares[list(groups)])
        s = torch.multinomial(shares, rows, replacement=True)
        output, logits = self.vae.decode(self.sampler.sample(rows), s)
        y = torch.multinomial(logits.softmax(1), 1)[:, 0]
        return Data(syntax.draw(output), s, y)


class FairTable:
    """A fair synthetic table of any length.

        table = stillhouse.load(run.folder)
        rows = table.generate(1000, where={"sex": "Female"})

    Args:
        student: the networks.
        codec: back to the input's own columns, dtypes and categories.
    """

    def __init__(self, student: Student, codec: TableCodec) -> None:
        self.student, self.codec = student, codec
        self.syntax = TableSyntax(codec.blocks)

    def generate(self, rows: int, seed: int = 0, where: dict[str, Any] | None = None) -> pd.DataFrame:
        """`rows` rows in the input's form; see `blocks`."""
        return pd.concat(list(self.blocks(rows, seed, where)), ignore_index=True)

    def blocks(self, rows: int, seed: int = 0, where: dict[str, Any] | None = None) -> Iterator[pd.DataFrame]:
        """`rows` rows, at most `ROWS_AT_ONCE` at a time; the first n rows do not depend on how many follow.

        Args:
            rows: how many.
            seed: same seed, same rows.
            where: column -> value that every row must have. Sensitive columns are set (s is drawn independently of
                z, so nothing is lost); for others, rows that do not meet it are drawn again.

        Raises:
            UserError: an unknown column or value, or a condition that almost no row meets.
        """
        require(rows > 0, f"{rows} rows asked for", "ask for at least 1")
        where = self._known(where or {})
        groups = self._groups(where)
        left, drawn, number = rows, 0, 0
        while left:
            block = self._block(groups, seed, number)
            drawn, number = drawn + len(block), number + 1
            for name, value in where.items():
                block = block[block[name] == value]
            yield block.head(left).reset_index(drop=True)
            left -= min(left, len(block))
            require(
                rows - left >= LEAST_ACCEPTED * drawn or drawn < 10 * ROWS_AT_ONCE,
                f"fewer than 1 in {1 / LEAST_ACCEPTED:.0f} generated rows have {where}",
                "ask for a commoner combination",
            )

    def _block(self, groups: list[int] | None, seed: int, number: int) -> pd.DataFrame:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, "generate", number))
            data = self.student.draw(ROWS_AT_ONCE, self.syntax, groups)
        return self.codec.to_table(data.x.numpy(), data.s.numpy(), data.y.numpy())

    def _known(self, where: dict[str, Any]) -> dict[str, Value]:
        """The conditions with their values as the column has them ("3" for an integer column is 3)."""
        known = {}
        for name, value in where.items():
            column = self.codec.schema.column(name)
            require(column.kind != "mixed", f"column {name!r} is continuous", "give conditions on categories only")
            found = [level for level in column.levels if str(level) == str(value)]
            choices = ", ".join(map(str, column.levels[:10]))
            require(bool(found), f"column {name!r} has no value {value!r}", f"choose one of: {choices}")
            known[name] = found[0]
        return known

    def _groups(self, where: dict[str, Value]) -> list[int] | None:
        names = self.codec.schema.sensitive
        asked = {i: where[name] for i, name in enumerate(names) if name in where}
        if not asked:
            return None
        found = [n for n, group in enumerate(self.codec.groups) if all(group[i] == v for i, v in asked.items())]
        require(bool(found), f"no training row has {where}", "ask for a combination that the table has")
        return found


class FairImages:
    """Fair synthetic images: the same student with another syntax."""

    def __init__(self, student: Student, syntax: Syntax) -> None:
        self.student, self.syntax = student, syntax

    def generate(self, rows: int, seed: int = 0) -> Data:
        """`rows` images (flattened pixels), their group and class numbers."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, "generate", 0))
            return self.student.draw(rows, self.syntax)


def save_student(student: Student, shape: Shape, codec: TableCodec | None, folder: Path) -> None:
    """Write model.safetensors and model.json."""
    description = {"syntax": "table" if codec else "colour-mnist", "shape": cattrs.unstructure(shape)}
    if codec:
        description["schema"] = cattrs.unstructure(codec.schema)
        description["quantiles"] = dict(codec.quantiles)
        description["groups"] = [list(group) for group in codec.groups]
    weights = {name: tensor.contiguous() for name, tensor in student.state_dict().items()}
    write_atomically(folder / "model.safetensors", save(weights))
    write_json(folder / "model.json", description)


def load_student(folder: Path) -> FairTable | FairImages:
    """Read what `save_student` wrote.

    Raises:
        UserError: a file is missing or damaged.
    """
    description = read_json(folder / "model.json")
    try:
        shape = cattrs.structure(description["shape"], Shape)
        codec = _codec(description) if description["syntax"] == "table" else None
        weights = load_file(folder / "model.safetensors")
        syntax = _syntax(codec)
        student = build_student(syntax, shape, torch.ones(shape.groups))
        student.load_state_dict(weights)
    except (OSError, KeyError, RuntimeError, SafetensorError, cattrs.BaseValidationError) as error:
        raise UserError(f"{folder} holds no student that can be loaded ({error})", "run the method again") from error
    return FairTable(student, codec) if codec else FairImages(student, syntax)


def build_student(syntax: Syntax, shape: Shape, group_shares: Tensor) -> Student:
    """The student's networks, untrained."""
    return Student(build_vae(syntax, shape), NoiseSampler(shape.latent, shape.width), group_shares)


def build_vae(syntax: Syntax, shape: Shape) -> FairVAE:
    """An untrained VAE."""
    return FairVAE(syntax, shape.groups, shape.classes, shape.latent, shape.width, shape.sees)


def _syntax(codec: TableCodec | None) -> Syntax:
    if codec:
        return TableSyntax(codec.blocks)
    from stillhouse.methods.fair_tables.images import ImageSyntax

    return ImageSyntax()


def _codec(description: dict[str, Any]) -> TableCodec:
    schema = _converter.structure(description["schema"], Schema)
    return TableCodec(schema, description["quantiles"], tuple(tuple(group) for group in description["groups"]))


_converter = cattrs.Converter()
_converter.register_structure_hook(Value, lambda value, _: value)

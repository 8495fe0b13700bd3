"""The student sampler as other tools take it: noise and a group to the numbers that rows are drawn from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from stillhouse.core.portable import Call, Network, Portable
from stillhouse.core.seeding import derive_seed
from stillhouse.methods.fair_tables.evaluation import METRICS, utility_metrics
from stillhouse.methods.fair_tables.networks import NoiseSampler
from stillhouse.methods.fair_tables.pipeline import open_task
from stillhouse.methods.fair_tables.sampler import FairImages, FairTable, Student, load_student
from stillhouse.methods.fair_tables.stages import Data

if TYPE_CHECKING:
    from stillhouse.methods.fair_tables import Config

INPUTS = 256
JUDGED = 2000
TOLD = ("fair_utility", "parity_ratio", "balanced_accuracy")


class Decoded(nn.Module):
    """(noise [n, latent], group [n]) -> parameters of p(x | z, s) and logits of p(y | z)."""

    def __init__(self, student: Student) -> None:
        super().__init__()
        self.student = student

    def forward(self, noise: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
        """z = G(noise), decoded."""
        sampler = self.student.sampler
        return self.student.vae.decode(sampler.frame.outward(sampler(noise)), group)


def portable_sampler(run: Path, config: Config) -> Portable:
    """The sampler, and the utility and fairness of the rows that its exported forms draw."""
    task, folder = open_task(config), run / "model"
    model = load_student(folder)

    def quality(calls: Mapping[str, Call]) -> Mapping[str, float]:
        given = _inputs(model, JUDGED, config.seed)
        columns, labels = (torch.from_numpy(v) for v in calls["model"]({k: v.numpy() for k, v in given.items()}))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(config.seed, "draws of an exported sampler"))
            x, y = model.syntax.draw(columns), torch.multinomial(labels.softmax(1), 1)[:, 0]
        return utility_metrics(task, Data(x, given["group"], y), config.seed)

    network = Network(
        "model",
        Decoded(model.student).eval(),
        _inputs(model, INPUTS, config.seed),
        ("columns", "label_logits"),
        _inputs(model, INPUTS, config.seed + 1),
    )
    return Portable(
        (network,),
        {"safetensors": lambda copy: [Decoded(load_student(copy).student)]},
        f"{INPUTS} rows' noise, with groups in the training rows' shares",
        tuple(metric for metric in METRICS if metric.key in TOLD),
        quality,
        {
            "safetensors": "import safetensors.torch\n\nweights = safetensors.torch.load_file('FOLDER/model.safetensors')"
        },
        ("model.json",),
    )


def _inputs(model: FairTable | FairImages, rows: int, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(derive_seed(seed, "noise of an exported sampler"))
    sampler = model.student.sampler
    assert isinstance(sampler, NoiseSampler)
    noise = torch.randn(rows, sampler.latent, generator=generator)
    return {"noise": noise, "group": torch.multinomial(model.student.group_shares, rows, True, generator=generator)}

"""Distiller's own command: what to try first, learned from earlier searches."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from stillhouse.methods.distiller.config import Config
from stillhouse.methods.distiller.recommend import print_recommendation


def recommend(
    data: str,
    teacher: str = "minilm",
    examples: int = 0,
    layers: int = 2,
    teacher_updates: int = 160,
    max_tokens: int = 64,
    top: int = 3,
    json: bool = False,
) -> None:
    """Which text-distillation pipeline to try first on a task, learned from earlier searches.

    Args:
        data: as for `stillhouse run distiller --data`.
        teacher: minilm, scratch, or a transformers folder; fine-tuned first where it has no classification head.
        examples: use at most this many training texts; 0 for all.
        layers: of the student.
        teacher_updates: of the fine-tuning.
        max_tokens: longer texts are cut.
        top: how many pipelines to print.
        json: machine-readable.
    """
    config = Config(
        data=data,
        teacher=teacher,
        examples=examples,
        layers=layers,
        teacher_updates=teacher_updates,
        max_tokens=max_tokens,
    )
    print_recommendation(config, top, json)


COMMANDS: Mapping[str, Callable[..., None]] = {"recommend": recommend}

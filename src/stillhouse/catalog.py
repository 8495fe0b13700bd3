"""The fourteen methods: name -> module, title, paper, task. A literal table; nothing registers itself."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from stillhouse.core.errors import UserError


@dataclass(frozen=True)
class Entry:
    """One method as a user chooses it."""

    title: str
    paper: str
    task: str
    give: str
    get: str
    module: str | None = None
    """Import path of the method's module, or None while it is not there yet."""


class Method(Protocol):
    """What a method's module offers.

    Two more are optional: `portable(run_folder) -> core.portable.Portable`, what `stillhouse export` is told of its model,
    and `TRIALS`, what `stillhouse serve` lets a visitor try (core.trial.Trial by title).
    """

    Config: type[Any]
    """Frozen dataclass; its attribute docstrings are the help."""
    PRESETS: Mapping[str, Any]
    """"laptop" (embedded default data, minutes on two cores) and "paper" (the published setting)."""
    COMMANDS: Mapping[str, Callable[..., None]]
    """Commands beside `run`, by name; empty for most methods."""

    def distill(self, config: Any, run: Any, /) -> Any: ...

    def estimate(self, config: Any, /) -> Any: ...

    def load(self, folder: Path, /) -> Any: ...


IMAGES = "diffusion model to a one-step generator"

CATALOG: dict[str, Entry] = {
    "dmd2": Entry(
        "DMD2",
        "Improved Distribution Matching Distillation for Fast Image Synthesis (arXiv 2405.14867)",
        IMAGES,
        "a diffusion model, images",
        "a generator of one or a few steps",
        "stillhouse.methods.dmd2",
    ),
    "disback": Entry(
        "DisBack",
        "Distribution Backtracking Builds A Faster Convergence Trajectory for Diffusion Distillation "
        "(arXiv 2408.15991)",
        IMAGES,
        "a diffusion model",
        "a one-step generator",
        "stillhouse.methods.disback",
    ),
    "multi_student": Entry(
        "Multi-Student Distillation",
        "Multi-student Diffusion Distillation for Better One-step Generators (arXiv 2410.23274)",
        IMAGES,
        "a diffusion model, images, conditions",
        "K small one-step generators and a router",
        "stillhouse.methods.multi_student",
    ),
    "swiftbrush": Entry(
        "SwiftBrush",
        "SwiftBrush: One-Step Text-to-Image Diffusion Model with Variational Score Distillation (arXiv 2312.05239)",
        IMAGES,
        "a text-to-image diffusion model, prompts",
        "a one-step text-to-image generator",
        "stillhouse.methods.swiftbrush",
    ),
    "distiller": Entry(
        "Distiller / MI-alpha / AutoDistiller",
        "Distiller: A Systematic Study of Model Distillation Methods in Natural Language Processing (arXiv 2109.11105)",
        "fine-tuned text encoder to a small one",
        "a fine-tuned encoder, texts",
        "the best small encoder and why",
        "stillhouse.methods.distiller",
    ),
    "autodistil": Entry(
        "AutoDistil",
        "AutoDistil: Few-shot Task-agnostic Neural Architecture Search for Distilling Large Language Models "
        "(arXiv 2201.12507)",
        "text encoder to students for every budget",
        "an encoder, texts",
        "students along a quality and cost front",
        "stillhouse.methods.autodistil",
    ),
    "modular_encoder": Entry(
        "ModularStarEncoder",
        "One Model to Train them All: Hierarchical Self-Distillation for Enhanced Early Layer Embeddings "
        "(arXiv 2503.03008)",
        "code search encoder with five exits",
        "a folder of source code",
        "one encoder, five sizes, an index",
        "stillhouse.methods.modular_encoder",
    ),
    "diswot": Entry(
        "DisWOT",
        "DisWOT: Student Architecture Search for Distillation WithOut Training (arXiv 2303.15678)",
        "student search for an image classifier",
        "an image classifier, a budget",
        "the student that distils best",
        "stillhouse.methods.diswot",
    ),
    "similar_tasks": Entry(
        "DistillNearest / DistillWeighted",
        "Distilling from Similar Tasks for Transfer Learning on a Budget (arXiv 2304.12314)",
        "many source models, few labels",
        "a folder of models, few labels",
        "a small classifier",
        "stillhouse.methods.similar_tasks",
    ),
    "mirage": Entry(
        "Mirage",
        "Mirage: Model-Agnostic Graph Distillation for Graph Classification (arXiv 2310.09486)",
        "graph data set to a few kilobytes",
        "a graph data set",
        "a summary that trains any graph network",
        "stillhouse.methods.mirage",
    ),
    "fair_tables": Entry(
        "Fair synthetic tables",
        "Generating Synthetic Fair Syntax-agnostic Data by Learning and Distilling Fair Representation "
        "(arXiv 2408.10755)",
        "table to a fair synthetic table",
        "a table with a sensitive column",
        "a fair synthetic table and its sampler",
        "stillhouse.methods.fair_tables",
    ),
    "impossible": Entry(
        "Impossible Distillation",
        "Impossible Distillation: from Low-Quality Model to High-Quality Dataset & Model for Summarization and "
        "Paraphrasing (arXiv 2305.16635)",
        "weak language model to a paraphrase model",
        "a language model",
        "a data set and a small model",
        "stillhouse.methods.impossible",
    ),
    "biomedical_relations": Entry(
        "Biomedical relations",
        "Comparison of biomedical relationship extraction methods and models for knowledge graph creation "
        "(arXiv 2201.01647)",
        "abstracts to a knowledge graph",
        "abstracts",
        "a graph with evidence",
        "stillhouse.methods.biomedical_relations",
    ),
    "forum_qa": Entry(
        "Forum question answering",
        "Question-Answering Model for Schizophrenia Symptoms and Their Impact on Daily Life using Mental Health "
        "Forums Data (arXiv 2310.00448)",
        "forum posts to a QA data set and reader",
        "a forum export",
        "a data set and a small reader",
        "stillhouse.methods.forum_qa",
    ),
}


@dataclass(frozen=True)
class Home:
    """A method, and what a word for its commands does."""

    method: str
    says: str


COMMAND_HOMES: dict[str, Home] = {
    "ask": Home("forum_qa", "A question to a reader of forum posts."),
    "code": Home("modular_encoder", "Index a folder of source code, and search it by words."),
    "kg": Home("biomedical_relations", "Build a knowledge graph from abstracts, and ask it."),
    "recommend": Home("distiller", "Which text-distillation pipeline to try first, learned from earlier searches."),
    "sources": Home("similar_tasks", "Rank a folder of models by how much they know of a task."),
}
"""Words for a method's own commands beside its name: `stillhouse sources rank`. A word that is itself one of the
method's commands is that command."""


def load_method(name: str) -> Method:
    """Import a method's module by its catalogue name.

    Raises:
        UserError: no such method, not there yet, or a package it needs is missing.
    """
    entry = CATALOG.get(name) if isinstance(name, str) else None
    if entry is None:
        close = difflib.get_close_matches(str(name), CATALOG, n=1)
        hint = f"did you mean {close[0]!r}?" if close else "see: stillhouse list"
        raise UserError(f"no method {name!r}", hint)
    if entry.module is None:
        raise UserError(f"{entry.title} is not in this version yet", "see: stillhouse list")
    try:
        return cast(Method, importlib.import_module(entry.module))
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("stillhouse"):
            raise
        raise UserError(
            f"{entry.title} needs the package {error.name!r}",
            "install it with: pip install 'stillhouse[all]'",
        ) from error

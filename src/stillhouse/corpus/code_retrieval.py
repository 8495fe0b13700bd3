"""Search tasks over code: queries, a pool of code, and which of it answers each query; and metrics of a ranking by ir-measures."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from stillhouse.core.data import PublicFile, find_public_file
from stillhouse.core.errors import UserError, first_line, require
from stillhouse.corpus.code_files import CodeFile, Skipped
from stillhouse.corpus.code_functions import Function, functions
from stillhouse.corpus.code_rewrites import rewritten
from stillhouse.corpus.code_sets import documented

COSQA = "https://github.com/Jun-jie-Huang/CoCLR, data/search (slashes in the name as two underscores)"
CODEXGLUE = "https://github.com/microsoft/CodeXGLUE, Code-Code/code-to-code-trans/data"
HUMANEVAL_X = "https://github.com/THUDM/CodeGeeX, codegeex/benchmark/humaneval-x"
CLOZE = "https://github.com/microsoft/CodeXGLUE, Code-Code/ClozeTesting-maxmin/data/cloze-maxmin (one object a line, gzipped)"
HUMANEVAL_LANGUAGES = {"java": "java", "js": "javascript", "cpp": "cpp", "go": "go"}
CLOZE_LANGUAGES = ("go", "java", "javascript", "php", "python", "ruby")
DEPTH = 100
"""Results a query that metrics look at."""


@dataclass(frozen=True)
class SearchTask:
    """Find the right code in a pool."""

    name: str
    kind: Literal["text", "code"]
    """What a query is."""
    queries: tuple[str, ...]
    query_languages: tuple[str, ...]
    codes: tuple[str, ...]
    code_languages: tuple[str, ...]
    gold: np.ndarray
    """[queries] index of the code that answers each."""

    def __len__(self) -> int:
        return len(self.queries)


def metrics(task: SearchTask, scores: np.ndarray) -> dict[str, float]:
    """MRR and nDCG at 10 of a ranking, by ir-measures.

    Args:
        task: queries and the code that answers each.
        scores: [queries, codes], the higher the better. Among equals the later in the pool comes first for none: ties are
            broken by a fixed random order, so that a constant score is chance.
    """
    import ir_measures

    order = np.random.default_rng(0).permutation(scores.shape[1])
    depth = min(DEPTH, scores.shape[1])
    top = order[np.argsort(-scores[:, order], axis=1, kind="stable")[:, :depth]]
    qrels = [ir_measures.Qrel(str(q), str(gold), 1) for q, gold in enumerate(task.gold)]
    run = [
        ir_measures.ScoredDoc(str(q), str(c), float(depth - rank))
        for q, row in enumerate(top)
        for rank, c in enumerate(row)
    ]
    found = ir_measures.calc_aggregate([ir_measures.RR, ir_measures.nDCG @ 10], qrels, run)
    return {"mrr": float(found[ir_measures.RR]), "ndcg": float(found[ir_measures.nDCG @ 10])}


def docs_task(part: Sequence[Function], name: str = "docs") -> SearchTask:
    """From a function's documentation to its code, which has none; equal documentation is asked once."""
    once = {function.doc.lower(): function for function in documented(part)}
    chosen = list(once.values())
    return _task(
        name,
        "text",
        [f.doc for f in chosen],
        [f.language for f in chosen],
        [f.code for f in chosen],
        [f.language for f in chosen],
        range(len(chosen)),
    )


def rewrites_task(part: Sequence[Function], pool: Sequence[str], seed: int) -> SearchTask:
    """From a rewritten function to the original among the others."""
    codes, languages = [f.code for f in part], [f.language for f in part]
    queries = [rewritten(function, pool, seed + i) for i, function in enumerate(part)]
    return _task("rewrites", "code", queries, languages, codes, languages, range(len(part)))


def _task(
    name: str,
    kind: Literal["text", "code"],
    queries: Sequence[str],
    query_languages: Sequence[str],
    codes: Sequence[str],
    code_languages: Sequence[str],
    gold: Any,
) -> SearchTask:
    return SearchTask(
        name,
        kind,
        tuple(queries),
        tuple(query_languages),
        tuple(codes),
        tuple(code_languages),
        np.fromiter(gold, np.int64),
    )


def cosqa(part: Literal["dev", "test"] = "test") -> SearchTask:
    """CoSQA: 500 web queries over 6,267 Python functions whose docstrings are taken out.

    Raises:
        UserError: the files are absent or incomplete.
    """
    pool = json.loads(_cosqa_file("code_idx_map.txt").read_text(encoding="utf-8"))
    rows = json.loads(_cosqa_file(f"cosqa-retrieval-{part}-500.json").read_text(encoding="utf-8"))
    codes = [without_docstring(code) for code in pool]  # keys, in the order of their numbers
    require(
        list(pool.values()) == list(range(len(pool))),
        "code_idx_map.txt is not in order",
        f"fetch it again from {COSQA}",
    )
    python = ["python"] * len(codes)
    return _task(
        "cosqa",
        "text",
        [row["doc"] for row in rows],
        python[: len(rows)],
        codes,
        python,
        (row["retrieval_idx"] for row in rows),
    )


def _cosqa_file(name: str) -> Path:
    return find_public_file(PublicFile(f"cosqa_retrieval/data__search__{name}", COSQA))


def without_docstring(code: str) -> str:
    """A Python function without its documentation; one that the grammar does not read is cut between its first triple quotes."""
    found = functions(CodeFile("", "", "python", code), Skipped())
    if found:
        return found[0].code
    for quote in ('"""', "'''"):
        parts = code.split(quote, 2)
        if len(parts) == 3:
            return parts[0] + parts[2].lstrip()
    return code


def java_to_csharp(part: Literal["train", "test"] = "test") -> SearchTask:
    """From a Java method to its C# translation (CodeXGLUE).

    Raises:
        UserError: the files are absent or of unequal lengths.
    """
    sides = []
    for ending in ("java", "cs"):
        name = f"{part}.java-cs.txt.{ending}"
        path = find_public_file(PublicFile(f"codexglue_small/{name}", f"{CODEXGLUE}/{name}"))
        sides.append(path.read_text(encoding="utf-8").strip("\n").split("\n"))
    require(
        len(sides[0]) == len(sides[1]),
        f"the {part} files of java-cs have unequal lengths",
        f"fetch them again from {CODEXGLUE}",
    )
    # one line twice is one item: its copies would be wrong answers to each other
    pairs = list({two: (one, two) for one, two in zip(*sides, strict=True)}.values())
    return _task(
        "java-cs",
        "code",
        [a for a, _ in pairs],
        ["java"] * len(pairs),
        [b for _, b in pairs],
        ["c_sharp"] * len(pairs),
        range(len(pairs)),
    )


def humaneval_x(language: str = "java") -> SearchTask:
    """From a solution in Python to the solution of the same problem in another language.

    Raises:
        UserError: no such language, or its file is absent.
    """
    require(
        language in HUMANEVAL_LANGUAGES,
        f"no language {language!r} of HumanEval-X here",
        f"choose from {', '.join(HUMANEVAL_LANGUAGES)}",
    )
    sides = [
        [
            row["declaration"] + row["canonical_solution"]
            for row in _lines(f"humaneval_x/humaneval_{name}.jsonl.gz", HUMANEVAL_X)
        ]
        for name in ("python", language)
    ]
    n = len(sides[0])
    return _task(
        f"humaneval-x {language}",
        "code",
        sides[0],
        ["python"] * n,
        sides[1],
        [HUMANEVAL_LANGUAGES[language]] * n,
        range(n),
    )


def codesearchnet(language: str) -> SearchTask:
    """From documentation to code of CodeSearchNet's test functions of a language (tokens; one token of each is masked)."""
    rows = _lines(f"codesearchnet_cloze/cloze_maxmin_{language}.jsonl.gz", CLOZE)
    once = {" ".join(row["nl_tokens"]): " ".join(row["pl_tokens"]) for row in rows}
    of = [language] * len(once)
    return _task(f"codesearchnet {language}", "text", list(once), of, list(once.values()), of, range(len(once)))


def _lines(path: str, home: str) -> list[dict[str, Any]]:
    file = find_public_file(PublicFile(path, home))
    try:
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            return [json.loads(line) for line in lines]
    except (OSError, EOFError, ValueError) as error:
        raise UserError(f"{file} cannot be read ({first_line(error)})", f"fetch it again from {home}") from error


def public_tasks(name: str) -> list[SearchTask]:
    """The tasks that a name stands for: cosqa, java-cs, humaneval-x (four languages), codesearchnet (six).

    Raises:
        UserError: the data is not below $STILLHOUSE_DATA.
    """
    if name == "humaneval-x":
        return [humaneval_x(language) for language in HUMANEVAL_LANGUAGES]
    if name == "codesearchnet":
        return [codesearchnet(language) for language in CLOZE_LANGUAGES]
    return [cosqa()] if name == "cosqa" else [java_to_csharp()]


def translation_pairs(name: str) -> list[tuple[str, str, str, str]]:
    """(first, its language, second, its language) to train on: java-cs, humaneval-x, or a JSON-lines file.

    Raises:
        UserError: no such file, or a line of it is not a pair.
    """
    if name == "java-cs":
        return _as_pairs(java_to_csharp("train"))
    if name == "humaneval-x":
        return [pair for language in HUMANEVAL_LANGUAGES for pair in _as_pairs(humaneval_x(language))]
    file = Path(name)
    require(file.is_file(), f"no file {name} of translation pairs", "give java-cs, humaneval-x or a JSON-lines file")
    found = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            first, second = row.get("languages", ("", ""))
            found.append((str(row["first"]), str(first), str(row["second"]), str(second)))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UserError(
                f"{name}, line {number} is not a pair",
                'write {"first": code, "second": code, "languages": [a, b]} a line',
            ) from None
    return found


def _as_pairs(task: SearchTask) -> list[tuple[str, str, str, str]]:
    return [
        (task.queries[i], task.query_languages[i], task.codes[g], task.code_languages[g])
        for i, g in enumerate(task.gold)
    ]

"""The commands beside `run`: rewrite a text with a run's student, look at its data card, ask the critics about a pair."""

from __future__ import annotations

import json as json_module
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import tyro

from stillhouse.core.errors import UserError, require
from stillhouse.core.files import read_json


def _rewritten(text: str, run: Path, task: str, code: tuple[str, ...], outputs: int, seed: int, json: bool) -> None:
    from stillhouse.methods.impossible.rewriter import load_rewriter

    if not (run / "result.json").exists():
        require((run / "config.json").exists(), f"{run} is not a run folder", "name one with --run")
        raise UserError(f"{run} has no result yet", f"finish it with: stillhouse resume {run}")
    rewriter = load_rewriter(run / "model")
    require(
        rewriter.task == task,
        f"the student of {run} was made for the task {rewriter.task}",
        f"run impossible --task {task}",
    )
    codes = tuple(c if c.startswith("<") else f"<{c}>" for c in code)
    made = rewriter(sys.stdin.read() if text == "-" else text, codes=codes, outputs=outputs, seed=seed)
    print(json_module.dumps({"input": text, "codes": codes, "outputs": made}, indent=1) if json else "\n".join(made))


def paraphrase(
    text: tyro.conf.Positional[str],
    run: Path,
    code: tuple[str, ...] = (),
    outputs: int = 1,
    seed: int = 0,
    json: bool = False,
) -> None:
    """Say a text in other words.

    Args:
        text: one or more sentences; - reads them from standard input.
        run: a finished run of the task paraphrase.
        code: control codes: shorter, same-length, longer; active, passive, fronted, there.
        outputs: how many; more than one are sampled.
        seed: of the sampling.
        json: machine-readable.
    """
    _rewritten(text, run, "paraphrase", code, outputs, seed, json)


def summarise(
    text: tyro.conf.Positional[str],
    run: Path,
    code: tuple[str, ...] = (),
    outputs: int = 1,
    seed: int = 0,
    json: bool = False,
) -> None:
    """Say a text in short.

    Args:
        text: one or more sentences; - reads them from standard input.
        run: a finished run of the task summary.
        code: control codes, as for paraphrase.
        outputs: how many; more than one are sampled.
        seed: of the sampling.
        json: machine-readable.
    """
    _rewritten(text, run, "summary", code, outputs, seed, json)


def card(run: tyro.conf.Positional[Path]) -> None:
    """The card of a run's data sets: funnels, critics, examples, provenance.

    Args:
        run: a finished run folder.
    """
    file = run / "model" / "data" / "README.md"
    require(file.is_file(), f"{run} has no data sets yet", f"finish it with: stillhouse resume {run}")
    print(file.read_text(encoding="utf-8"))


def judge(
    x: tyro.conf.Positional[str],
    y: tyro.conf.Positional[str],
    critic: str = "everyday",
    task: Annotated[str, tyro.conf.arg(help="paraphrase or summary")] = "paraphrase",
    json: bool = False,
) -> None:
    """What every critic says of a pair.

    Args:
        x: the input.
        y: the output.
        critic: everyday, sick, embedding, or a folder of an NLI classifier.
        json: machine-readable.
    """
    from stillhouse.core.run import temporary_run
    from stillhouse.corpus.numbers import numbers, numbers_agree
    from stillhouse.corpus.rouge import rouge_l, words
    from stillhouse.corpus.text_metrics import compression
    from stillhouse.corpus.tree_distance import parse, tree_edit_distance
    from stillhouse.methods.impossible.config import Config
    from stillhouse.methods.impossible.made_here import get_critic

    config = Config(critic=critic, task=task)  # type: ignore[arg-type]
    with temporary_run("impossible", 0) as run:
        chosen = get_critic(config, run)
    forward, backward = chosen.entailment([x, y], [y, x]).tolist()
    trees = list(parse([x, y]))
    said = {
        "p(x => y)": round(forward, 3),
        "p(y => x)": round(backward, 3),
        "ROUGE-L": round(rouge_l(words(x), words(y)), 3),
        "tree edit distance": tree_edit_distance(*trees),
        "length share": round(compression(x, y), 2),
        "numbers agree": numbers_agree(numbers(x), numbers(y), both_ways=config.both_ways),
    }
    print(
        json_module.dumps(said, indent=1) if json else "\n".join(f"{name:18}  {value}" for name, value in said.items())
    )


def pairs(run: tyro.conf.Positional[Path], data: str = "d_self", most: int = 10, json: bool = False) -> None:
    """Pairs of a run's data sets with where they come from.

    Args:
        run: a finished run folder.
        data: d_t or d_self.
        most: how many.
        json: machine-readable, all of them.
    """
    from dataclasses import asdict

    from stillhouse.methods.impossible.dataset import read_pairs

    require(data in ("d_t", "d_self"), f"no data set {data!r}", "give d_t or d_self")
    read_json(run / "config.json")
    found = read_pairs(run / "model" / "data" / f"{data}.jsonl")
    if json:
        print(json_module.dumps([asdict(pair) for pair in found], indent=1, ensure_ascii=False))
        return
    for pair in found[:most]:
        print(
            f"{pair.x}\n  -> {pair.y}\n     p {pair.p_forward:.2f} / {pair.p_backward:.2f}, ROUGE-L {pair.rouge:.2f}, {pair.made_by}, after: {pair.context}"
        )


COMMANDS: dict[str, Callable[..., None]] = {
    "paraphrase": paraphrase,
    "summarise": summarise,
    "card": card,
    "pairs": pairs,
    "judge": judge,
}

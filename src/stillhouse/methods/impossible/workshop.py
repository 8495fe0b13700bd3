"""The arms of a run: what each is trained on, its outputs for the exam, and its cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stillhouse.core.result import Arm, Cost, Role
from stillhouse.core.run import Run
from stillhouse.core.seeding import derive_seed
from stillhouse.core.training import Fitted
from stillhouse.corpus.sentences import first_sentence
from stillhouse.encoders.models import parameters
from stillhouse.encoders.training import Recipe
from stillhouse.methods.impossible.causal import LanguageModel, Throughput, continuations
from stillhouse.methods.impossible.config import Config
from stillhouse.methods.impossible.dataset import control_codes
from stillhouse.methods.impossible.domain import Domain, Exam
from stillhouse.methods.impossible.evaluation import Judges, judge_outputs
from stillhouse.methods.impossible.generation import sampling_of
from stillhouse.methods.impossible.seq2seq import (
    Student,
    code_ids,
    copy_of,
    draw_pairs,
    encode_examples,
    rewrite,
    train_student,
)
from stillhouse.methods.impossible.vocabulary import LENGTH_CODES, SYNTAX_CODES

INSTRUCTIONS = {"paraphrase": "In other words,", "summary": "In short,"}


@dataclass(frozen=True)
class Trained:
    """A student and what it took."""

    student: Student
    updates: int
    seconds: float


class Workshop:
    """Trains students on pairs and judges what they, and those who know nothing of pairs, say."""

    def __init__(self, config: Config, domain: Domain, judges: Judges, run: Run) -> None:
        self.config, self.domain, self.judges, self.run = config, domain, judges, run
        self.exam: Exam = domain.report

    def train(self, start: Trained, rows: Sequence[tuple[str, str]], updates: int, stage: str) -> Trained:
        """A copy of `start`, trained on these rows with the config's control codes."""
        student = copy_of(start.student)
        codes = [code_ids(student, some) for some in control_codes(rows, self.config.control)]
        examples = encode_examples(student, [x for x, _ in rows], [y for _, y in rows])
        recipe = Recipe(updates, self.config.batch, self.config.learning_rate)
        fitted: Fitted = train_student(student, draw_pairs(examples, codes), recipe, self.run, stage, self.run.seed)
        return Trained(student, start.updates + updates, start.seconds + fitted.seconds)

    def student_arm(self, name: str, role: Role, made: Trained, note: str = "") -> tuple[Arm, Throughput]:
        """A student's row, and how fast it says what it says."""
        throughput = Throughput()
        outputs = [ys[0] for ys in rewrite(made.student, self.exam.inputs, throughput=throughput)]
        cost = Cost(
            parameters=parameters(made.student.model),
            network_passes=throughput.tokens / max(1, len(outputs)),
            latency_seconds={"batch 64": throughput.seconds / max(1, len(outputs))},
            training_seconds=made.seconds,
            updates={"student": made.updates},
        )
        return self.arm(name, role, outputs, cost, note), throughput

    def teacher_arm(self, teacher: LanguageModel) -> Arm:
        """The teacher, told to do the task with an example; its first sentence is taken."""
        throughput = Throughput()
        prompts = [self.prompt(x) for x in self.exam.inputs]
        drawn = continuations(teacher, prompts, 1, sampling_of(self.config), (self.run.seed, "prompted"), throughput)
        outputs = [first_sentence(texts[0]) or texts[0] for texts in drawn]
        cost = Cost(
            parameters=parameters(teacher.model),
            network_passes=throughput.tokens / max(1, len(outputs)),
            latency_seconds={"batch 64": throughput.seconds / max(1, len(outputs))},
        )
        return self.arm(
            "teacher, told to do it",
            "teacher",
            outputs,
            cost,
            "prompted with an example" if self.domain.select.references else "prompted",
        )

    def prompt(self, x: str) -> str:
        """The input after an example from the select split, where one is known."""
        order = INSTRUCTIONS[self.config.task]
        references = self.domain.select.references
        example = f"{self.domain.select.inputs[0]} {order} {references[0][0]} " if references and references[0] else ""
        return f"{example}{x} {order}"

    def floors(self) -> list[Arm]:
        """The input as it is, and another input: rows of every table."""
        inputs = self.exam.inputs
        others = np.random.default_rng(derive_seed("random pair")).permutation(len(inputs)).tolist()
        shifted = [inputs[j if j != i else (j + 1) % len(inputs)] for i, j in enumerate(others)]
        nothing = Cost(parameters=0, network_passes=0)
        return [
            self.arm("copy of the input", "floor", list(inputs), nothing),
            self.arm("a random other input", "floor", shifted, nothing),
        ]

    def arm(self, name: str, role: Role, outputs: list[str], cost: Cost, note: str = "") -> Arm:
        """A row from outputs; it stays in the run folder with the outputs, so that it is judged once."""
        key = "".join(c if c.isalnum() else "-" for c in name)
        told = self.run.kept(
            f"outputs/{key}",
            lambda: {
                "metrics": judge_outputs(self.exam, outputs, self.config, self.judges),
                "rows": [list(row) for row in zip(self.exam.inputs, outputs, strict=True)],
            },
        )
        return Arm(name, role, told["metrics"], cost, self.config.seed, note)

    def obedience(self, made: Trained, inputs: Sequence[str]) -> list[tuple[str, float, float]]:
        """Per control code: share of outputs that obey it, and share that would without being told."""
        groups = {"length": LENGTH_CODES, "syntax": SYNTAX_CODES}
        free = [ys[0] for ys in rewrite(made.student, inputs)]
        table = []
        for name in self.config.control:
            untold = [codes[0] for codes in control_codes(list(zip(inputs, free, strict=True)), (name,))]
            for code in groups[name]:
                told = [ys[0] for ys in rewrite(made.student, inputs, codes=(code,))]
                shown = [codes[0] for codes in control_codes(list(zip(inputs, told, strict=True)), (name,))]
                table.append((code, shown.count(code) / len(shown), untold.count(code) / len(untold)))
        return table

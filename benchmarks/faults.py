"""Two hundred faults: real processes over all methods are killed, starved and lied to, and what became of them.

python benchmarks/faults.py                          # all chains; resumable, a piece a chain
python benchmarks/faults.py --method dmd2 --faults 20 --seed 3
python benchmarks/faults.py --minutes 20             # starts no further chain after 20 minutes

Of every method a tiny run (tests/rows.py, on files of one's own where the method takes any) is carried out once without
faults. Then a second one, from an empty cache on a small file system of its own, meets one fault after another at moments
drawn from the seed, and goes on after each as the error's one line says. A fault is *met well* if the process ended by the
signal, or with exit code 2 or 130 and one line, or unharmed; if no finished artifact was lost, changed or left in part; and
the chain of faults ends well if its outcome equals the straight run's bit by bit, with no temporary file left.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
import faulty
from faulty import Ended, Order, Places
from own_files import own_files
from rows import ROWS
from stillhouse.core.environment import environment
from stillhouse.core.evidence import Bench, print_estimate
from stillhouse.core.files import write_json

HERE = Path(__file__).resolve().parent
KINDS = (
    *("kill -9",) * 4,
    *("SIGTERM",) * 2,
    "full disk",
    "full disk",
    "file too large",
    "read-only",
    "truncated checkpoint",
    "flipped bit",
    "clock set back",
    "second process",
    "non-finite loss",
    "non-finite gradient",
    "slow source",
    "vanishing source",
    "failing source",
)
"""What a method meets; drawn in a random order, and again from the start if more are asked for."""
DISK_MEGABYTES = 400
SECONDS_A_FAULT = 15.0
"""Measured on one core, with all that a fault makes to be done again."""
LONG = ("modular_encoder", "biomedical_relations", "forum_qa", "impossible", "dmd2", "disback", "multi_student", "swiftbrush", "fair_tables")  # fmt: skip
CHAINS = (
    *((method, 9 if method in LONG else 16, 0) for method in ROWS),
    *((method, 16, 1) for method in ("similar_tasks", "mirage", "diswot")),
)
"""Method, faults and seed of every chain."""
GOOD_CODES = {
    "kill -9": {-9},
    "SIGTERM": {-15, 130},
    "slow source": {-15, 130},
    "clock set back": {0},
    "second process": {-9},
}
"""How a process may end that was struck; with 2 and one line where nothing is said here. Ending well (0) is always good."""


@dataclass(frozen=True)
class Fault:
    """One fault and what became of it."""

    kind: str
    moment: str
    code: int | None
    said: str
    seconds: float
    wrong: tuple[str, ...]
    """What should not have happened; empty if the fault was met well."""


def drawn_order(kind: str, straight: Mapping[str, Any], draw: random.Random) -> Order:
    """The moment of a fault: at a write, at an opening of data, at an update, or by the clock."""
    early = 0.7 * draw.random() ** 2
    if kind in ("vanishing source", "failing source"):
        return Order(kind, read=1 + int(early * 10))
    if kind.startswith("non-finite"):
        return Order(kind, step=1 + int(draw.random() * 4))
    by_the_clock = kind in ("clock set back", "slow source", "second process") or draw.random() < 0.4
    if by_the_clock:
        return Order(kind, seconds=0.3 + early * straight["seconds"])
    return Order(kind, write=1 + int(early * straight["writes"]))


class Chain:
    """A run that meets one fault after another."""

    def __init__(self, context: Any, places: Places, straight: Mapping[str, Any], draw: random.Random) -> None:
        self.context, self.places, self.straight, self.draw = context, places, straight, draw
        self.met: list[Fault] = []
        self.ends: list[str] = []
        """What was wrong at the end of each finished run of the chain."""
        self.finished = 0

    def meet(self, kind: str) -> bool:
        """Let the run meet a fault of this kind; whether it came about."""
        if kind in ("truncated checkpoint", "flipped bit"):
            return self._damage(kind)
        order = drawn_order(kind, self.straight, self.draw)
        if kind == "read-only" or self.places.run.exists():
            faulty.open_to_all(self.places)
        before = faulty.artifacts(self.places)
        if kind == "second process":
            ended, wrong = self._with_a_second(order)
        else:
            ended = faulty.carried_out(self.context, self.places, order)
            wrong = [] if ended.struck else None
        faulty.mended(self.places, order)
        if wrong is None:
            if ended.code:
                self._note(order, ended, [f"no fault, and yet exit code {ended.code}"])
        else:
            self._note(order, ended, [*wrong, *self._wrong(kind, ended, before)])
        if ended.code == 0:
            self._finish()
        return wrong is not None

    def _wrong(self, kind: str, ended: Ended, before: Mapping[str, str]) -> Iterator[str]:
        good = GOOD_CODES.get(kind, {2})
        if ended.code not in good | {0}:
            yield f"exit code {ended.code}"
        if ended.code in (2, 130) and len(ended.said) != 1:
            yield f"{len(ended.said)} lines instead of one"
        if ended.code in (0, 2, 130) and any(not line.startswith("stillhouse: ") for line in ended.said):
            yield f"said: {ended.said[0]}"
        yield from (f"lost {name}" for name in faulty.lost(dict(before), faulty.artifacts(self.places)))
        yield from (f"in part: {name}" for name in faulty.broken(self.places))

    def _note(self, order: Order, ended: Ended, wrong: list[str]) -> None:
        moments = {"write": order.write, "opening of data": order.read, "update": order.step}
        moment = ", ".join(f"{name} {number}" for name, number in moments.items() if number)
        moment = moment or f"{order.seconds:.1f} s"
        said = self._without_paths(ended.said[-1] if ended.said else "")
        fault = Fault(
            order.kind, moment, ended.code, said, round(ended.seconds, 1), tuple(map(self._without_paths, wrong))
        )
        self.met.append(fault)
        print(f"  {order.kind}, {moment}: {ended.code} {said}", *fault.wrong, sep="\n    ! ", flush=True)
        if wrong:
            print("\n".join(f"      {line}" for line in ended.said[-12:]), flush=True)

    def _without_paths(self, text: str) -> str:
        return text.replace(f"{self.places.root}/", "")

    def _with_a_second(self, order: Order) -> tuple[Ended, list[str] | None]:
        """Start a second process on the run while one works on it; then kill the first."""
        ended = faulty.beside(self.context, self.places, order.seconds)
        if ended is None:
            return Ended(0 if (self.places.run / "report.html").exists() else -9, [], 0.0), None
        first, second = ended
        named = second.code == 2 and len(second.said) == 1 and "another process works on" in second.said[0]
        return first, [] if named else [f"the second process ended with {second.code} and said {second.said[-1:]}"]

    def _damage(self, kind: str) -> bool:
        """Harm a checkpoint; resuming must name it, and go on from the one before once it is removed."""
        found = sorted(self.places.run.rglob("checkpoint/*/*.safetensors"))
        newest = {file.parent: file for file in found}
        if not newest:
            return False
        file = self.draw.choice(list(newest.values()))
        content = bytearray(file.read_bytes())
        place = self.draw.randrange(len(content))
        if kind == "flipped bit":
            content[place] ^= 1 << self.draw.randrange(8)
        file.write_bytes(content if kind == "flipped bit" else content[:place])
        order = Order(kind, write=0, seconds=0.0)
        ended = faulty.carried_out(self.context, self.places, Order(kind, write=1 << 30))
        wrong = []
        if ended.code == 2 and str(file) in " ".join(ended.said) and len(ended.said) == 1:
            file.unlink()
        elif ended.code != 0 or not self.places.run.joinpath("result.json").exists():
            wrong.append(f"exit code {ended.code}, and the file is not named")
            file.unlink(missing_ok=True)
        self._note(replace(order, write=place), ended, wrong)
        if ended.code == 0:
            self._finish()
        return True

    def finish(self) -> None:
        """Carry the run to its end without a fault."""
        if self.places.run.exists() or not self.finished:
            ended = faulty.carried_out(self.context, self.places, Order(""))
            if ended.code:
                self.ends.append(f"exit code {ended.code}: {' / '.join(ended.said[-3:])}")
                return
            self._finish()

    def _finish(self) -> None:
        """Compare a finished run with the straight one, and make room for another."""
        outcome = faulty.fingerprint(self.places.run)
        unequal = sorted(
            k
            for k in outcome.keys() | self.straight["outcome"].keys()
            if outcome.get(k) != self.straight["outcome"].get(k)
        )
        left = faulty.leftovers(self.places)
        self.ends += [f"{name} is not equal" for name in unequal] + [f"{name} is left over" for name in left]
        self.finished += 1
        print("  finished", *self.ends, sep="\n    ! ", flush=True)
        shutil.rmtree(self.places.run)


def straight_run(context: Any, method: str, root: Path) -> dict[str, Any]:
    """The outcome of a run without faults, and what it took."""
    places = Places(root, method, {}).make()
    places = replace(places, options=ROWS[method] | own_files(method, places.data))
    ended = faulty.carried_out(context, places, Order(""))
    if ended.code:
        raise SystemExit(f"{method} does not run: {' / '.join(ended.said[-5:])}")
    shutil.rmtree(places.run)  # once more from the cache, which is what most processes of a chain do
    ended = faulty.carried_out(context, places, Order(""))
    return {
        "seconds": ended.seconds,
        "writes": ended.writes,
        "modules": ended.modules,
        "outcome": faulty.fingerprint(places.run),
        "options": places.options,
        "data": places.data,
    }


def with_the_same_files(straight: Mapping[str, Any], places: Places) -> dict[str, Any]:
    """The straight run's options, with a copy of its files byte for byte."""
    if straight["data"].exists():
        shutil.copytree(straight["data"], places.data)
    here, there = str(straight["data"]), str(places.data)
    return {n: v.replace(here, there) if isinstance(v, str) else v for n, v in straight["options"].items()}


def chain_of_faults(method: str, faults: int, seed: int, scratch: Path) -> dict[str, Any]:
    """What a method's run met, and how it ended."""
    draw = random.Random(f"{method} {seed}")
    context = multiprocessing.get_context("fork")
    straight = straight_run(context, method, scratch / method / "straight")
    faulty.import_beforehand(straight["modules"])
    kinds = list(KINDS)
    draw.shuffle(kinds)
    with faulty.small_disk(scratch / method / "disk", DISK_MEGABYTES) as mounted:
        places = Places(scratch / method / "disk", method, {}).make()
        places = replace(places, options=with_the_same_files(straight, places))
        chain = Chain(context, places, straight, draw)
        without = set() if mounted else {"full disk"}
        without |= set() if places.data.exists() else {"slow source", "vanishing source", "failing source"}
        for number in range(3 * faults):
            kind = kinds[number % len(kinds)]
            if kind not in without and len(chain.met) < faults:
                chain.meet(kind)
        chain.finish()
    shutil.rmtree(scratch / method, ignore_errors=True)
    return {
        "method": method,
        "seed": seed,
        "mounted": mounted,
        "own files": not bool(without - {"full disk"}),
        "straight seconds": straight["seconds"],
        "finished runs": chain.finished,
        "ends": chain.ends,
        "faults": [asdict(fault) for fault in chain.met],
    }


def written(bench: Bench, told: Sequence[Mapping[str, Any]]) -> Path:
    """The result file: counts by kind, and every chain with its faults."""
    faults = [fault for chain in told for fault in chain["faults"]]
    wrong = [fault for fault in faults if fault["wrong"]]
    by_kind, bad_kind = Counter(f["kind"] for f in faults), Counter(f["kind"] for f in wrong)
    content = {
        "measured": "faults",
        "faults": len(faults),
        "met well": len(faults) - len(wrong),
        "methods": len({chain["method"] for chain in told}),
        "runs finished after faults": sum(chain["finished runs"] for chain in told),
        "ends that were not as the straight run's": sum(len(chain["ends"]) for chain in told),
        "commits": sorted({str(piece.get("commit")) for piece in bench.asked.values()}),
        "environment": environment(),
        "minutes": round(sum(piece["seconds"] for piece in bench.asked.values()) / 60, 1),
        "by kind": {kind: {"faults": n, "met well": n - bad_kind[kind]} for kind, n in sorted(by_kind.items())},
        "chains": told,
    }
    write_json(bench.results_file, content)
    return bench.results_file


def main() -> None:
    """Run the chains that are not on disk yet and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", choices=ROWS, action="append", help="only chains of these; writes no result file")
    parser.add_argument("--faults", type=int, help="a chain; sixteen, or nine where a tiny run is long, by default")
    parser.add_argument("--seed", type=int, help="only chains of this seed")
    parser.add_argument("--minutes", type=float, default=1e9, help="start no further chain after so many")
    scratch = Path(tempfile.gettempdir()) / "stillhouse-faults"
    parser.add_argument("--scratch", type=Path, default=scratch, help="where the runs lie meanwhile")
    given = parser.parse_args()
    bench, began, told = Bench("faults", HERE), time.monotonic(), []
    chains = [
        (method, given.faults or faults, seed if given.seed is None else given.seed)
        for method, faults, seed in CHAINS
        if method in (given.method or ROWS)
    ]
    print_estimate("faults", sum(SECONDS_A_FAULT * faults for _, faults, _ in chains), len(chains))
    for method, faults, seed in dict.fromkeys(chains):
        key = {"chain": method, "faults": faults, "seed": seed}
        if time.monotonic() - began > 60 * given.minutes and not bench.has(key):
            print(f"{method}, seed {seed}: not begun, the minutes are over")
            continue
        print(f"{method}, {faults} faults, seed {seed}", flush=True)
        told.append(bench.piece(key, partial(chain_of_faults, method, faults, seed, given.scratch)))
    if given.method is None:
        print(written(bench, told))


if __name__ == "__main__":
    main()

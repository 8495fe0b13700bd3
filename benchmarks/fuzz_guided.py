"""One reader under atheris: inputs are chosen by the code that they reach. benchmarks/fuzz.py --guided starts this.

python benchmarks/fuzz_guided.py READER SECONDS CORPUS_FOLDER       # needs atheris, which is no dependency of stillhouse
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
import atheris

with atheris.instrument_imports(include=["stillhouse"], enable_loader_override=False):
    import stillhouse.core.run
    import stillhouse.corpus.readers
    import stillhouse.corpus.squad
    import stillhouse.encoders.data
    import stillhouse.graphs.codec
    import stillhouse.graphs.folder
    import stillhouse.graphs.tu
    import stillhouse.knowledge.readers
    import stillhouse.methods.modular_encoder.index
    import stillhouse.tables.reading
    import stillhouse.vision.image_files  # noqa: F401
from fuzzing import READERS, outcome

EVERY = 200
"""Inputs between two writings of what was found: libFuzzer ends the process itself."""


def main() -> None:
    """Fuzz until the time is up."""
    name, seconds, corpus = sys.argv[1:]
    reader = next(reader for reader in READERS if reader.name == name)
    path, told = Path(corpus).parent / f"x{reader.ending}", Path(corpus).parent / "told.json"
    counts = {"inputs": 0, "answer": 0, "refused": 0, "wrong": 0}
    findings: dict[str, list[str]] = {}
    for content in reader.seeds():
        outcome(reader, path, reader.packed(content), seconds=600)
    began, slowest = time.process_time(), 0.0

    def one(content: bytes) -> None:
        nonlocal slowest
        at = time.process_time()
        kind, wrong = outcome(reader, path, reader.packed(content))
        slowest = max(slowest, time.process_time() - at)
        counts["inputs"] += 1
        counts[kind] += 1
        if wrong and wrong not in findings:
            findings[wrong] = [content.hex()]
        if counts["inputs"] % EVERY == 0:
            record = {
                "inputs": counts["inputs"],
                "answered": counts["answer"],
                "refused": counts["refused"],
                "wrong": counts["wrong"],
                "findings": findings,
                "seconds": round(time.process_time() - began, 2),
                "slowest input seconds": round(slowest, 3),
            }
            told.write_text(json.dumps(record))

    atheris.Setup([sys.argv[0], f"-max_total_time={seconds}", "-max_len=20000", "-rss_limit_mb=0", corpus], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

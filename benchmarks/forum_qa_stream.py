"""A made-up export of so many megabytes through `stillhouse forum_qa build`: seconds and the most memory it had.

    python benchmarks/forum_qa_stream.py 200

Prints one line of JSON. The posts are those of the made-up forum, each time by other users and with other words added.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from stillhouse.core.seeding import derive_seed
from stillhouse.methods.forum_qa.synthetic import make_forum


def write_large(path: Path, megabytes: int) -> int:
    """Write the export; how many posts it has."""
    forum = [w.post for w in make_forum(150, 0)]
    posts = size = copy = 0
    with path.open("w", encoding="utf-8") as file:
        while size < megabytes * 10**6:
            for post in forum:
                # words of its own: slips of the pen and names, of which a real forum has no end
                own = f"{derive_seed(copy, post.id) % 10**7:x} {derive_seed(post.id, copy) % 10**6:x}"
                row = {
                    "id": f"{copy}-{post.id}",
                    "user": f"{post.user}x{copy}",
                    "time": post.time,
                    "text": f"{post.text} {own}",
                }
                size += file.write(json.dumps(row, ensure_ascii=False) + "\n")
                posts += 1
            copy += 1
    return posts


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        export, out = Path(scratch) / "export.jsonl", Path(scratch) / "out"
        posts = write_large(export, int(sys.argv[1]))
        command = [sys.executable, "-m", "stillhouse", "forum_qa", "build", str(export), "--out", str(out)]
        started = time.monotonic()
        subprocess.run(
            [*command, "--deidentifier", "rules", "--most-users", "300"], check=True, stdout=subprocess.DEVNULL
        )
        seconds = time.monotonic() - started
        peak = resource.getrusage(resource.RUSAGE_CHILDREN)
        story = json.loads((out / "funnel.json").read_text())
        told = {
            "megabytes": export.stat().st_size / 1e6,
            "posts": posts,
            "seconds": seconds,
            "cpu_seconds": peak.ru_utime,
            "peak_gigabytes": peak.ru_maxrss / 1e6,
            "passages": story["passages"],
            "found_scrubbed": story["found_scrubbed"],
            "found_released": story["found_released"],
        }
        print(json.dumps(told))


if __name__ == "__main__":
    main()

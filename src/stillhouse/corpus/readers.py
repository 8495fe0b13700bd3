"""Forum exports as a stream of posts: CSV, JSON lines, mbox, Discourse JSON, and SQL dumps of phpBB and Discourse.

Nothing is held but the post at hand, so that an export may be larger than memory. Lines that cannot be read are left
out, counted and named; an export of which most lines are such is refused.
"""

from __future__ import annotations

import csv
import email
import email.policy
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from stillhouse.core.errors import UserError, require
from stillhouse.core.files import parse_json
from stillhouse.corpus.sql_dump import read_sql

MOST_JSON_BYTES = 100_000_000
"""A single JSON document has to be read whole."""
READ_HEADERS = (b"from:", b"date:", b"subject:", b"message-id:", b"content-")
MOST_HEADER = 2000
"""Characters of a mail's header: the standard library parses them in time that grows with the square, or faster."""
csv.field_size_limit(16_000_000)

NAMES: Mapping[str, tuple[str, ...]] = {
    "id": ("id", "_id", "post_id", "postid", "message_id"),
    "user": ("user", "username", "user_id", "author", "poster_id", "userid", "from"),
    "time": ("time", "date", "created_at", "post_time", "timestamp", "created", "created_utc"),
    "text": ("text", "raw", "cooked", "post_text", "body", "message", "content", "selftext"),
    "thread": ("thread", "thread_id", "topic_id", "topic", "subject"),
    "staff": ("staff", "moderator", "admin", "is_staff", "role"),
}
"""Field of a post -> names that exports give it, the likeliest first."""


@dataclass(frozen=True, slots=True)
class Post:
    """One post as its export has it."""

    id: str
    user: str
    time: float
    """Seconds since 1970; NaN where the export does not say."""
    text: str
    thread: str = ""
    staff: bool = False
    """Written by a moderator or an administrator."""


@dataclass
class Losses:
    """What could not be read, by reason, with the first places of each."""

    counts: Counter[str] = field(default_factory=Counter)
    places: dict[str, list[int]] = field(default_factory=dict)
    read: int = 0

    def add(self, reason: str, place: int) -> None:
        """Note a line or record that is left out."""
        self.counts[reason] += 1
        if self.counts[reason] <= 3:
            self.places.setdefault(reason, []).append(place)

    def words(self) -> str:
        """For people: "2 malformed lines (4, 17)"; empty where nothing was lost."""
        return ", ".join(
            f"{count} {reason} ({', '.join(map(str, self.places[reason]))}{', ...' if count > 3 else ''})"
            for reason, count in self.counts.items()
        )

    def require_mostly_read(self, path: Path) -> None:
        """Refuse an export that is broken rather than scratched.

        Raises:
            UserError: nothing was read, or more was lost than read.
        """
        lost = sum(self.counts.values())
        require(self.read > 0 or lost > 0, f"{path} has no posts", "give an export with posts in it")
        require(
            lost <= self.read,
            f"{path} has {self.words()} among {self.read + lost} records",
            "mend the export, or name its columns with --text-column, --user-column",
        )


def read_posts(path: Path, columns: Mapping[str, str] | None = None, losses: Losses | None = None) -> Iterator[Post]:
    """The posts of an export, one after the other.

    Args:
        path: a .csv, .tsv, .jsonl, .mbox, .json or .sql file, or a folder of Discourse topics (.json).
        columns: field of a post -> its name in the export, where it has another than the usual ones.
        losses: is told what could not be read.

    Raises:
        UserError: no such file, a kind that is not known, or no column with texts or users.
    """
    losses = Losses() if losses is None else losses
    kind = "folder" if path.is_dir() else path.suffix.lower()
    readers: Mapping[str, Callable[[Path, Losses], Iterator[Mapping[str, Any]]]] = {
        ".csv": _csv,
        ".tsv": _csv,
        ".jsonl": _json_lines,
        ".ndjson": _json_lines,
        ".json": _discourse,
        "folder": _discourse_folder,
        ".mbox": _mbox,
        ".sql": lambda p, lost: read_sql(p, lost.add),
    }
    require(path.exists(), f"no export {path}", "give a .csv, .tsv, .jsonl, .mbox, .json or .sql file")
    require(
        kind in readers,
        f"{path} is not a kind of export that can be read",
        "give a .csv, .tsv, .jsonl, .mbox, .json or .sql file",
    )
    naming: dict[str, str] | None = None
    for number, record in enumerate(readers[kind](path, losses), start=1):
        if naming is None or naming["text"] not in record:
            naming = _naming(record, columns or {}, path)
        yield _post(record, naming, number)
        losses.read += 1
    losses.require_mostly_read(path)


def _naming(record: Mapping[str, Any], columns: Mapping[str, str], path: Path) -> dict[str, str]:
    """Which of the record's names each field of a post has."""
    lower = {str(name).lower(): str(name) for name in record}
    found: dict[str, str] = {}
    for wanted, usual in NAMES.items():
        given = columns.get(wanted, "")
        name = given if given in record else next((lower[n] for n in usual if n in lower), "") if not given else ""
        if not name and (given or wanted in ("text", "user")):
            raise UserError(
                f"{path} has no column {given!r}" if given else f"{path} has no column with the {wanted}",
                f"name it with --{wanted}-column; there are: {', '.join(map(str, list(record)[:12]))}",
            )
        found[wanted] = name
    return found


def _post(record: Mapping[str, Any], naming: Mapping[str, str], number: int) -> Post:
    def value(name: str) -> str:
        found = record.get(naming[name], "") if naming[name] else ""
        return "" if found is None else str(found)

    staff = value("staff").strip().lower()
    return Post(
        value("id") or str(number),
        value("user"),
        seconds(value("time")),
        value("text").replace("\0", ""),
        value("thread"),
        staff in ("1", "true", "yes", "t", "moderator", "admin", "administrator", "staff"),
    )


def seconds(text: str) -> float:
    """A point in time as seconds since 1970: a number of seconds or milliseconds, ISO 8601, or a mail's date; else NaN."""
    text = text.strip()
    if re.fullmatch(r"-?\d+(\.\d+)?", text):
        number = float(text)
        return number / 1000 if abs(number) > 1e11 else number
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        try:
            when = parsedate_to_datetime(text)
        except (ValueError, TypeError, IndexError, OverflowError):
            return math.nan
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def _csv(path: Path, losses: Losses) -> Iterator[Mapping[str, Any]]:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        lines = (line.replace("\0", "") for line in file)
        rows = csv.reader(lines, delimiter="\t" if path.suffix == ".tsv" else ",")
        head = next(rows, None)
        require(head is not None, f"{path} is empty", "give an export with posts in it")
        width = len(head or [])
        while True:
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error:
                losses.add("malformed rows", rows.line_num)
                continue
            if len(row) == width:
                yield dict(zip(head or [], row, strict=True))
            elif row:
                losses.add("rows with too few or too many columns", rows.line_num)


def _json_lines(path: Path, losses: Losses) -> Iterator[Mapping[str, Any]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                record = parse_json(line.decode("utf-8", errors="replace"))
            except ValueError:
                losses.add("malformed lines", number)
                continue
            if isinstance(record, dict):
                yield record
            else:
                losses.add("lines that are no JSON objects", number)


def _discourse_folder(path: Path, losses: Losses) -> Iterator[Mapping[str, Any]]:
    files = sorted(path.glob("*.json"))
    require(bool(files), f"{path} has no .json files", "give a folder of Discourse topics, or one export file")
    for file in files:
        yield from _discourse(file, losses)


def _discourse(path: Path, losses: Losses) -> Iterator[Mapping[str, Any]]:
    """Posts of a topic (post_stream), of the latest posts, or of a plain list of posts or topics."""
    size = path.stat().st_size
    require(
        size <= MOST_JSON_BYTES,
        f"{path} is one JSON document of {size / 1e6:.0f} MB",
        "write it as JSON lines first (jq -c '.[]')",
    )
    try:
        found = parse_json(path.read_text(encoding="utf-8", errors="replace"))
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error})", "restore the file, or give JSON lines as .jsonl") from error
    for number, record in enumerate(_posts_in(found), start=1):
        if isinstance(record, dict):
            yield record
        else:
            losses.add("entries that are no posts", number)


def _posts_in(found: Any) -> Iterator[Any]:
    if isinstance(found, dict) and "post_stream" in found:
        stream = found["post_stream"]
        yield from _listed(stream.get("posts") if isinstance(stream, dict) else None)
        return
    lists = (found.get(key) for key in ("posts", "latest_posts", "topics")) if isinstance(found, dict) else (found,)
    for item in (item for one in lists for item in _listed(one)):
        yield from _posts_in(item) if isinstance(item, dict) and "post_stream" in item else [item]


def _listed(found: Any) -> list[Any]:
    return found if isinstance(found, list) else []


def _mbox(path: Path, losses: Losses) -> Iterator[Mapping[str, Any]]:
    message: list[bytes] = []
    number = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.startswith(b"From ") and message:
                yield from _mail(message, number, losses)
                message = []
            elif not line.startswith(b"From ") or message:
                message.append(line)
    if message:
        yield from _mail(message, number, losses)


def _require_short_headers(lines: list[bytes]) -> None:
    """Raise ValueError where a header that is read, of the mail or of a part, is long beyond reason."""
    length, read = 0, False
    for line in lines:
        folded = line[:1] in (b" ", b"\t")
        read = read if folded else line[:40].lower().startswith(READ_HEADERS)
        length = length + len(line) if folded else len(line)
        if read and length > MOST_HEADER:
            raise ValueError("a header beyond reason")


def _mail(lines: list[bytes], place: int, losses: Losses) -> Iterator[Mapping[str, Any]]:
    try:
        _require_short_headers(lines)
        mail = email.message_from_bytes(b"".join(lines), policy=email.policy.default)
        part = mail.get_body(preferencelist=("plain", "html"))
        text = part.get_content() if part is not None else ""
        yield {
            "id": str(mail["Message-ID"] or ""),
            "user": str(mail["From"] or ""),
            "time": str(mail["Date"] or ""),
            "text": re.sub(r"^>(>*From )", r"\1", text, flags=re.M),
            "thread": re.sub(r"^(?:re|fwd?): *", "", str(mail["Subject"] or ""), flags=re.I),
        }
    except (LookupError, ValueError, AttributeError, TypeError, OverflowError, RecursionError):
        losses.add("malformed mails", place)

"""Hostile files for every reader: good ones to start from, ways to spoil them, and what may come of reading them.

A reader may answer, or raise `UserError`. Anything else is a finding, and so is an answer that takes more than a few seconds.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import re
import signal
import struct
import tempfile
import traceback
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from stillhouse.core.errors import UserError

SECONDS = 5.0
"""A reader that is longer at a file of a few kilobytes hangs."""
MOST_BYTES = 20_000

WORDS = [
    b"", b"\0", b"\n", b"\r\n", b"\t", b",", b'"', b"'", b"|", b"\\", b"<", b">", b"&#0;", b"]]>", b"[", b"{", b"}",
    b"-1", b"0", b"1", b"1e999", b"-1e999", b"NaN", b"Infinity", b"null", b"true", b"1.5", b"2147483648",
    b"9223372036854775808", b"99999999999999999999999", b"9" * 4400, b"\xff\xfe", b"\xef\xbb\xbf", b"\x80", b"\xed\xa0\x80",
    "²".encode(), "①".encode(), "😀".encode(), "e\u0301".encode(), "\u202e".encode(), b"../../etc/passwd", b"/dev/zero",
    b"[" * 3000, b'{"a":' * 2000, b"(" * 2000, b"\\N", b"From ", b"\n\n", b"=?x?q?=00?=",
]  # fmt: skip
"""What breaks readers."""
VALUES: list[Any] = [
    None, True, -1, 0, 10**30, 1e308, float("nan"), float("inf"), "", "\0", "²", "x" * 500, "9" * 4400, [], {}, [[]], [None],
    [1, 2], {"a": 1}, "\ud800",
]  # fmt: skip
"""What breaks readers of JSON, in the place of any value."""


@dataclass(frozen=True)
class Reader:
    """Something that reads a file."""

    name: str
    seeds: Callable[[], list[bytes]]
    """Good files."""
    read: Callable[[Path], object]
    ending: str
    packed: Callable[[bytes], bytes] = bytes
    """Makes the file of what was spoilt: puts a checksum or an archive around it."""
    json: bool = False
    """Spoil values of the parsed JSON too."""


# ---- spoiling ----


def spoilt(content: bytes, other: bytes, draw: random.Random, as_json: bool = False) -> bytes:
    """`content` after one to four changes; `other` is a file to take pieces from."""
    if as_json and draw.random() < 0.6:
        return spoilt_json(content, draw)
    data = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 2, 4))):
        at = draw.randrange(len(data) + 1)
        end = min(len(data), at + draw.choice((1, 1, 2, 8, 40, 400)))
        kind = draw.randrange(9)
        if kind == 0 and data:
            data[at % len(data)] ^= 1 << draw.randrange(8)
        elif kind == 1:
            data[at:at] = draw.choice(WORDS)
        elif kind == 2:
            data[at:end] = draw.choice(WORDS)
        elif kind == 3:
            del data[at:end]
        elif kind == 4:
            data[at:at] = data[at:end] * draw.choice((1, 2, 50))
        elif kind == 5:
            del data[at:]
        elif kind == 6:
            start = draw.randrange(len(other) + 1)
            data[at:end] = other[start : start + draw.choice((4, 40, 400))]
        elif kind == 7 and data:
            data[at % len(data)] = draw.randrange(256)
        elif kind == 8:
            lines = data.split(b"\n")
            one, two = draw.randrange(len(lines)), draw.randrange(len(lines))
            lines[one], lines[two] = lines[two], lines[one]
            data = bytearray(b"\n".join(lines))
    return bytes(data[:MOST_BYTES])


def spoilt_json(content: bytes, draw: random.Random) -> bytes:
    """JSON (or a line of JSON lines) with a value replaced, removed or renamed."""
    lines = content.split(b"\n") if b"\n{" in content else [content]
    at = draw.randrange(len(lines))
    try:
        tree = json.loads(lines[at])
    except (ValueError, RecursionError):
        return content
    places = list(_places(tree))
    if not places:
        return json.dumps(draw.choice(VALUES)).encode()
    holder, key = draw.choice(places)
    kind = draw.randrange(4)
    if kind == 0 and isinstance(holder, dict):
        holder[draw.choice(["", "id", "text", "data", "\0"])] = holder.pop(key)
    elif kind == 1:
        del holder[key]
    else:
        holder[key] = draw.choice(VALUES)
    lines[at] = json.dumps(tree).encode()
    return b"\n".join(lines)


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    todo = [tree]
    while todo:
        holder = todo.pop()
        items = holder.items() if isinstance(holder, dict) else enumerate(holder) if isinstance(holder, list) else ()
        for key, value in items:
            yield holder, key
            if isinstance(value, dict | list):
                todo.append(value)


def deflated(content: bytes) -> bytes:
    """A summary's file around a spoilt body."""
    body = zlib.compress(content, 1)
    return b"MIRAGE\x01" + struct.pack("<I", zlib.crc32(body)) + body


def zipped(content: bytes) -> bytes:
    """A zip of the members that `joined` put together."""
    made = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(made, "w") as archive:
        warnings.simplefilter("ignore")
        for part in content.split(b"\x1e"):
            name, _, text = part.partition(b"\x1f")
            archive.writestr(zipfile.ZipInfo(name.decode("utf-8", "replace") or "x"), text)
    return made.getvalue()


def joined(members: dict[str, str]) -> bytes:
    """Members of an archive as one run of bytes that can be spoilt."""
    return b"\x1e".join(name.encode() + b"\x1f" + text.encode() for name, text in members.items())


# ---- what is read ----


def pubtator() -> list[bytes]:
    return [
        b"1|t|BRCA1 and cancer\n1|a|BRCA1 causes breast cancer.\n1\t0\t5\tBRCA1\tGene\t672\n1\t10\t16\tcancer\tDisease\tD009369\n"
        b"1\tAssociation\t672\tD009369\n\n2|t|No mention\n2|a|\n",
        "3|t|Größe of IL-6\n3|a|α-synuclein.\n3\t9\t13\tIL-6\tGene\t3569;1\n3\t14\t25\tα-synuclein\tGene\t-\n".encode(),
    ]


BIOC = {
    "documents": [
        {
            "id": "7",
            "passages": [
                {
                    "offset": 0,
                    "text": "Aspirin helps.",
                    "annotations": [
                        {"id": "a", "infons": {"type": "Chemical", "identifier": "D1"}, "text": "Aspirin", "locations": [{"offset": 0, "length": 7}]}
                    ],
                },
                {
                    "offset": 15,
                    "text": "It eases pain.",
                    "annotations": [
                        {"id": "b", "infons": {"type": "Disease", "identifier": "D2"}, "text": "pain", "locations": [{"offset": 24, "length": 4}]}
                    ],
                    "relations": [{"infons": {"type": "treats"}, "nodes": [{"refid": "a"}, {"refid": "b"}]}],
                },
                {"offset": 30, "sentences": [{"offset": 30, "text": "One sentence.", "annotations": []}]},
            ],
            "relations": [{"infons": {"type": "x", "entity1": "D1", "entity2": "D2"}, "nodes": []}],
        }
    ]
}  # fmt: skip
BIOC_XML = b"""<?xml version="1.0"?><!DOCTYPE collection SYSTEM "BioC.dtd"><collection><document><id>7</id><passage><offset>0</offset>
<text>Aspirin helps.</text><annotation id="a"><infon key="type">Chemical</infon><infon key="identifier">D1</infon>
<location offset="0" length="7"/><text>Aspirin</text></annotation></passage><relation id="r"><infon key="type">t</infon>
<node refid="a" role=""/><node refid="a" role=""/></relation></document></collection>"""
ENTITIES = b"""<?xml version="1.0"?><!DOCTYPE c [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;">
<!ENTITY d "&c;&c;&c;&c;&c;&c;&c;"><!ENTITY e "&d;&d;&d;&d;&d;&d;&d;"><!ENTITY f SYSTEM "file:///etc/passwd">]>
<collection><document><id>&e;&f;</id><passage><offset>0</offset><text>&e;</text></passage></document></collection>"""
DOCUMENT_LINES = (
    json.dumps({"id": 1, "text": "IL-6 rises", "mentions": [{"start": 0, "end": 4, "type": "Gene", "ids": ["3569"], "text": "IL-6"}], "relations": [{"label": "l", "first": "a", "second": "b"}]}).encode()
    + b"\n"
    + json.dumps({"id": 2, "title": "T", "abstract": "A", "mentions": [{"spans": [[0, 1]], "type": "x", "ids": "1|2"}]}).encode()
    + b"\n"
)  # fmt: skip


def documents(format: str) -> Callable[[Path], object]:
    def read(path: Path) -> object:
        from stillhouse.knowledge.documents import Counts
        from stillhouse.knowledge.readers import read_documents

        return list(read_documents(path, Counts(), format))

    return read


def squad() -> list[bytes]:
    answers = [{"text": "three nights", "answer_start": 12}]
    qas = [
        {"id": "1", "question": "How long?", "answers": answers},
        {"id": "2", "question": "Who?", "answers": [], "is_impossible": True},
    ]
    return [
        json.dumps(
            {"data": [{"title": "u", "paragraphs": [{"context": "I was awake three nights.", "qas": qas}]}]}
        ).encode()
    ]


def read_squad(path: Path) -> object:
    from stillhouse.corpus.squad import read_squad as read

    return read(path, 5)


POSTS_CSV = b'id,user,time,text\n1,ann,2020-01-02T03:04:05Z,"Hello, ""you"""\n2,bob,1577934245,text two\n3,ann,,"three\nlines"\n'
POSTS_JSONL = b"".join(
    json.dumps({"id": i, "author": "ann", "created_utc": 1577934245 + i, "body": "Some words"}).encode() + b"\n"
    for i in range(4)
)
MBOX = (
    b"From ann@x Thu Jan  2 03:04:05 2020\nFrom: Ann <ann@x>\nSubject: Re: sleep\nDate: Thu, 02 Jan 2020 03:04:05 +0000\n"
    b"Message-ID: <1@x>\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\nHello=20you\n>From me\n\n"
    b"From bob@x Thu Jan  2 03:04:06 2020\nFrom: bob@x\nMIME-Version: 1.0\nContent-Type: multipart/alternative; boundary=b\n\n--b\n"
    b"Content-Type: text/html; charset=latin-1\n\n<p>hi</p>\n--b--\n"
)
DISCOURSE = json.dumps(
    {"post_stream": {"posts": [{"id": 1, "username": "ann", "created_at": "2020-01-02", "cooked": "<p>x</p>"}]}}
).encode()
SQL = (
    b"CREATE TABLE `phpbb_posts` (\n  `post_id` int,\n  `poster_id` int,\n  `post_time` int,\n  `post_text` text\n) ENGINE=x;\n"
    b"INSERT INTO `phpbb_posts` VALUES (1,2,1577934245,'It''s \\'x\\''),(2,3,NULL,'two');\n"
    b"COPY public.posts (id, user_id, created_at, raw) FROM stdin;\n1\t2\t2020-01-02 03:04:05\tHello\\nyou\n\\.\n"
)


def read_posts(path: Path) -> object:
    from stillhouse.corpus.readers import read_posts as read

    return list(read(path))


TU = {
    "X_A.txt": "1, 2\n2, 1\n3, 4\n4, 3\n",
    "X_graph_indicator.txt": "1\n1\n2\n2\n",
    "X_graph_labels.txt": "1\n-1\n",
    "X_node_labels.txt": "0\n1\n1\n0\n",
    "X_edge_labels.txt": "0\n0\n1\n1\n",
    "X_node_attributes.txt": "0.5, 1\n0.25, 2\n1, 1\n0, 3\n",
}


def read_tu(path: Path) -> object:
    from stillhouse.graphs.tu import read_tu as read

    return read(path)


def in_folder(read: Callable[[Path], object], name: str) -> Callable[[Path], object]:
    """Read the folder that has the file as a/`name` (and a good neighbour of another class)."""

    def folder(path: Path) -> object:
        place = path.with_name("folder")
        for kind in ("a", "b"):
            (place / kind).mkdir(parents=True, exist_ok=True)
        ending = Path(name).suffix
        (place / "a" / name).write_bytes(path.read_bytes())
        (place / "b" / f"good{ending}").write_bytes(GOOD[ending])
        return read(place)

    return folder


def graphml() -> bytes:
    import networkx

    graph = networkx.Graph()
    graph.add_node("n0", label="C")
    graph.add_node("n1", label="O")
    graph.add_edge("n0", "n1", label="double")
    return "\n".join(networkx.generate_graphml(graph)).encode()


def read_graphs(path: Path) -> object:
    from stillhouse.graphs.folder import read_graph_folder

    return read_graph_folder(path)


def read_molecules(path: Path) -> object:
    from stillhouse.graphs.molecules import read_molecules as read

    return read(path)


@cache
def a_picture(kind: str, mode: str) -> bytes:
    import numpy as np
    from PIL import Image

    made = io.BytesIO()
    random = np.random.default_rng(0)
    Image.fromarray(random.integers(0, 255, (12, 12, 3), dtype=np.uint8)).convert(mode).save(made, kind)
    return made.getvalue()


def pictures() -> list[bytes]:
    return [
        a_picture("PNG", "RGB"),
        a_picture("PNG", "P"),
        a_picture("PNG", "LA"),
        a_picture("JPEG", "RGB"),
        a_picture("WEBP", "RGB"),
    ]


def read_pictures(path: Path) -> object:
    from stillhouse.vision.image_files import decode, look_at

    look_at(path)
    return decode(path, 8, 3)


def npz() -> list[bytes]:
    import numpy as np

    made = []
    for arrays in (
        {"images": np.zeros((4, 8, 8), np.uint8), "labels": np.arange(4)},
        {"images": np.zeros((2, 8, 8, 3), np.float32)},
    ):
        file = io.BytesIO()
        np.savez(file, **arrays)
        made.append(file.getvalue())
    return made


def read_npz(path: Path) -> object:
    from stillhouse.vision.image_files import read_npz as read

    return read(path)


def read_a_table(path: Path) -> object:
    from stillhouse.tables.reading import read_table

    return read_table(path)


def read_rows(path: Path) -> object:
    from stillhouse.encoders.data import read_texts

    return read_texts(str(path))


def parquet() -> list[bytes]:
    import pandas as pd

    file = io.BytesIO()
    pd.DataFrame({"text": ["a", "b"], "label": ["x", "y"]}).to_parquet(file)
    return [file.getvalue()]


def checkpoints() -> list[bytes]:
    """What stands in a checkpoint's tree; the digest is right, as a hostile hand would make it."""
    tree = {"position": {"done": 3, "seconds": 1.5}, "state": {"a": {"weight": 1}}}
    return [json.dumps(_tree(tree)).encode()]


def _tree(value: Any) -> Any:
    if isinstance(value, dict):
        return {"dict": [[key, _tree(item)] for key, item in value.items()]}
    if isinstance(value, list):
        return {"list": [_tree(item) for item in value]}
    return {"tensor": "t"} if value == 1 else {"value": value}


def in_checkpoint(tree: bytes) -> bytes:
    """A checkpoint's file around a spoilt tree, with the digest that fits."""
    import torch
    from safetensors.torch import save

    from stillhouse.core.checkpoint import _digest

    text = tree.decode("utf-8", "replace")
    tensors = {"t": torch.arange(3.0)[:, None]}
    return save(tensors, metadata={"tree": text, "digest": _digest(text, tensors)})


def read_checkpoint(path: Path) -> object:
    from stillhouse.core.checkpoint import load_checkpoint

    return load_checkpoint(path)


def restore(path: Path) -> object:
    """A run's training state out of the file, as `fit` does it."""
    import torch

    from stillhouse.core.run import Run
    from stillhouse.core.training import fit

    network = torch.nn.Linear(1, 3, bias=False)
    place = path.with_name("run")
    (place / "checkpoint" / "s").mkdir(parents=True, exist_ok=True)
    (place / "config.json").write_text('{"method": "dmd2", "config": {}}')
    (place / "checkpoint" / "s" / "000000003.safetensors").write_bytes(path.read_bytes())
    with Run.open(place, quiet=True) as run:
        return fit(lambda i: {}, {"a": network}, 3, run, stage="s")


def raw_checkpoint() -> list[bytes]:
    return [in_checkpoint(checkpoints()[0])]


def configs() -> list[bytes]:
    return [json.dumps({"method": "dmd2", "config": {"seed": 3, "data": "digits"}}).encode()]


def open_run(path: Path) -> object:
    """What `resume` reads before it works: the config, checked by the method's types."""
    from stillhouse.catalog import load_method
    from stillhouse.core.options import from_plain
    from stillhouse.core.run import Run

    place = path.with_name("opened")
    place.mkdir(exist_ok=True)
    (place / "config.json").write_bytes(path.read_bytes())
    with Run.open(place, quiet=True) as run:
        return from_plain(run.options, load_method(run.method).Config, place)


def results() -> list[bytes]:
    import cattrs

    from stillhouse.core.result import Arm, Cost, Curve, Metric, Picture, Result, Table

    made = Result(
        "dmd2",
        "Done.",
        (Metric("fid", "FID", "lower"),),
        (Arm("student", "student", {"fid": 1.5}, Cost(10, 20, 1.0, {"batch 1": 0.1}, 1.0, 2.0, {"s": 3})),),
        {"x": "X"},
        (Curve("student", "fid", ({"x": 1.0, "value": 2.0},)),),
        (Picture("P", "pictures/a.png", "alt"),),
        (Table("T", ("a", "b"), (("x", 1.0),)),),
    )
    return [json.dumps(cattrs.unstructure(made)).encode()]


def read_result(path: Path) -> object:
    from stillhouse.core.result import load_result

    return load_result(path)


def shelf(path: Path) -> object:
    """A finished run as the list of runs sees it: the result may be anything."""
    from stillhouse.reporting.shelf import Shelf

    place = path.with_name("runs") / "a"
    place.mkdir(parents=True, exist_ok=True)
    (place / "config.json").write_bytes(configs()[0])
    (place / "result.json").write_bytes(path.read_bytes())
    return Shelf(place.parent).entries()


def records(path: Path) -> object:
    from stillhouse.core.run import Run

    place = path.with_name("records")
    place.mkdir(exist_ok=True)
    (place / "config.json").write_bytes(configs()[0])
    (place / "metrics.jsonl").write_bytes(path.read_bytes())
    with Run.open(place, quiet=True) as run:
        return run.records(stage="s")


METRICS = b'{"stage": "s", "update": 1, "seconds": 0.5, "loss": 1.5}\n{"stage": "s", "update": 2, "loss": NaN}\n{"sta'


def indexes() -> list[bytes]:
    header = {"model": "m", "exit": 2, "docs": True, "run": "r", "folder": "f", "version": 1}
    rows = [["a.py", 1, 3, "f", "python"], ["b.py", 2, 9, "g", "python"]]
    return [json.dumps({"header": header, "files": {"a.py": [10, 20, "c"]}, "rows": rows}).encode()]


def in_index(record: bytes) -> bytes:
    """An index file around a spoilt record."""
    import torch

    from stillhouse.core.checkpoint import save_checkpoint

    with tempfile.TemporaryDirectory(dir=shared_memory()) as folder:
        file = Path(folder) / "i.safetensors"
        save_checkpoint({"record": record.decode("utf-8", "replace"), "vectors": torch.ones(2, 4)}, file)
        return file.read_bytes()


def read_index(path: Path) -> object:
    import numpy as np

    from stillhouse.methods.modular_encoder.index import read_part

    return read_part(path, path.parent).search(np.ones(4, np.float32), 2)


@cache
def a_summary() -> bytes:
    from graph_samples import random_graphs
    from stillhouse.graphs.budget import mixture_within
    from stillhouse.graphs.census import take_census
    from stillhouse.graphs.codec import pack
    from stillhouse.graphs.words import learn_words

    graphs = random_graphs(12)
    words = learn_words(graphs)
    return pack(mixture_within(take_census([graphs], words, 2), 800, labels="rule"))


def summaries() -> list[bytes]:
    return [zlib.decompress(a_summary()[11:])]


def read_summary(path: Path) -> object:
    from stillhouse.graphs.codec import read_summary as read

    return read(path)


def journals() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        import optuna

        from stillhouse.methods.distiller.study import open_study

        file = Path(folder) / "study.journal"
        study = open_study(file, _search())
        trial = study.ask()
        trial.suggest_categorical("layers", ("1", "2"))
        for name, value in {"levels": {"layers": "1"}, "report": 0.5, "seconds": 1.0, "parameters": 10}.items():
            trial.set_user_attr(name, value)
        study.tell(trial, 0.5)
        study.tell(study.ask(), state=optuna.trial.TrialState.FAIL)
        return [file.read_bytes()]


@cache
def _search() -> Any:
    from stillhouse.methods.distiller import PRESETS

    return PRESETS["laptop"]


def read_journal(path: Path) -> object:
    from stillhouse.methods.distiller.study import finished, open_study

    return finished(open_study(path, _search()))


def label_file(path: Path) -> object:
    from stillhouse.vision.few_labels import _read_label_file

    return _read_label_file(path, path.parent)


def sheet(path: Path) -> object:
    from stillhouse.methods.forum_qa.sheet import read_sheet

    return read_sheet(path)


def sheets() -> list[bytes]:
    from stillhouse.methods.forum_qa import sheet

    return [sheet_text(sheet)]


def sheet_text(module: Any) -> bytes:
    columns = module.COLUMNS
    return (",".join(columns) + "\n" + ",".join("1" for _ in columns) + "\n").encode()


GOOD = {
    ".graphml": graphml(),
    ".edges": b"a b x\nb c y\nd\n# c\n",
}


READERS = (
    Reader("PubTator", pubtator, documents("pubtator"), ".pubtator"),
    Reader("BioC JSON", lambda: [json.dumps(BIOC).encode()], documents("bioc-json"), ".json", json=True),
    Reader("BioC XML", lambda: [BIOC_XML, ENTITIES], documents("bioc-xml"), ".xml"),
    Reader("documents as JSON lines", lambda: [DOCUMENT_LINES], documents("jsonl"), ".jsonl", json=True),
    Reader("SQuAD", squad, read_squad, ".json", json=True),
    Reader("forum CSV", lambda: [POSTS_CSV], read_posts, ".csv"),
    Reader("forum JSON lines", lambda: [POSTS_JSONL], read_posts, ".jsonl", json=True),
    Reader("forum mbox", lambda: [MBOX], read_posts, ".mbox"),
    Reader("forum Discourse", lambda: [DISCOURSE], read_posts, ".json", json=True),
    Reader("forum SQL dump", lambda: [SQL], read_posts, ".sql"),
    Reader("TU zip, members", lambda: [joined(TU)], read_tu, ".zip", zipped),
    Reader("TU zip, archive", lambda: [zipped(joined(TU))], read_tu, ".zip"),
    Reader("GraphML", lambda: [GOOD[".graphml"]], in_folder(read_graphs, "x.graphml"), ".graphml"),
    Reader("edge lists", lambda: [GOOD[".edges"]], in_folder(read_graphs, "x.edges"), ".edges"),
    Reader("SMILES CSV", lambda: [b"smiles,kind\nCCO,a\nc1ccccc1,b\nC[C@H](N)C(=O)O.[Na+],a\n"], read_molecules, ".csv"),
    Reader("summaries, body", summaries, read_summary, ".mirage", deflated),
    Reader("summaries, file", lambda: [a_summary()], read_summary, ".mirage"),
    Reader("pictures", pictures, read_pictures, ".png"),
    Reader("npz", npz, read_npz, ".npz"),
    Reader("tables, CSV", lambda: [b"age,job,paid\n30,a,yes\n41,b,no\n,c,yes\n"], read_a_table, ".csv"),
    Reader("tables, Parquet", parquet, read_a_table, ".parquet"),
    Reader("texts, CSV", lambda: [b'text,label\n"a, b",x\n' + b"".join(b"word %d,%s\n" % (i, b"xy"[i % 2 :][:1]) for i in range(40))], read_rows, ".csv"),
    Reader("texts, JSON lines", lambda: [b"".join(b'{"text": "word %d", "label": "%s"}\n' % (i, b"xy"[i % 2 :][:1]) for i in range(20))], read_rows, ".jsonl", json=True),
    Reader("checkpoints, tree", checkpoints, restore, ".safetensors", in_checkpoint, json=True),
    Reader("checkpoints, file", raw_checkpoint, read_checkpoint, ".safetensors"),
    Reader("config.json", configs, open_run, ".json", json=True),
    Reader("result.json", results, read_result, ".json", json=True),
    Reader("result.json in the list of runs", results, shelf, ".json", json=True),
    Reader("metrics.jsonl", lambda: [METRICS], records, ".jsonl", json=True),
    Reader("code index, record", indexes, read_index, ".safetensors", in_index, json=True),
    Reader("search journal", journals, read_journal, ".journal", json=True),
    Reader("label file", lambda: [b"file,label\na.png,cat\nb.png,dog\n"], label_file, ".csv"),
    Reader("annotation sheet", sheets, sheet, ".csv"),
)  # fmt: skip


# ---- reading ----


class Hang(BaseException):
    """A reader that does not come to an end; not an Exception, so that nobody catches it."""


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise `Hang` after so many seconds."""

    def over(*_: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def shared_memory() -> str | None:
    """A folder that is not on a disk, where there is one."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def outcome(reader: Reader, path: Path, content: bytes, seconds: float = SECONDS) -> tuple[str, str]:
    """("answer" | "refused" | "wrong", what was wrong) of reading these bytes."""
    path.write_bytes(content)
    try:
        with at_most(seconds), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reader.read(path)
    except UserError as error:
        text = str(error)
        return (
            ("refused", "") if "\n" not in text and len(text) < 2000 else ("wrong", f"a message of {len(text)} signs")
        )
    except Hang:
        return "wrong", f"more than {seconds:g} s"
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        where = next(
            (
                f
                for f in reversed(traceback.extract_tb(error.__traceback__))
                if "stillhouse" in f.filename and "tests" not in f.filename
            ),
            None,
        )
        place = f"{Path(where.filename).name}:{where.name}" if where else "?"
        return "wrong", f"{type(error).__name__} in {place}: {re.sub(r'0x[0-9a-f]+|[0-9]+', 'N', str(error)[:60])}"
    return "answer", ""

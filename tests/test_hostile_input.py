"""Files from strangers are data: nothing in them runs, and every reader answers or refuses in one line, soon."""

import json
import pickle
import random
import re
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import stillhouse
from fuzzing import READERS, at_most, outcome, spoilt
from stillhouse.core.errors import UserError, one_line
from stillhouse.core.files import parse_json, read_json

INPUTS = 60
"""A reader; benchmarks/fuzz.py gives it a hundred thousand."""
SOURCE = Path(stillhouse.__file__).parent
BY_NAME = {reader.name: reader for reader in READERS}
QUICK = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("name", BY_NAME)
def test_spoilt_files_are_read_or_refused_in_one_line(name, tmp_path):
    reader, draw = BY_NAME[name], random.Random(name)
    path, seeds = tmp_path / f"x{reader.ending}", reader.seeds()
    good = [outcome(reader, path, reader.packed(content), seconds=120) for content in seeds]
    assert "answer" in dict(good), f"no good file is read: {good}"
    for number in range(INPUTS):
        content = reader.packed(spoilt(draw.choice(seeds), draw.choice(seeds), draw, reader.json))
        assert not outcome(reader, path, content)[1], f"input {number}: {content[:200]!r}"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["data", "paragraphs", "qas", "documents", "passages", "posts", "post_stream", "id"]) | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)  # fmt: skip
TREES = ("BioC JSON", "SQuAD", "forum Discourse", "documents as JSON lines", "config.json", "result.json", "checkpoints, tree", "code index, record")  # fmt: skip
TEXTS = ("PubTator", "forum CSV", "forum mbox", "forum SQL dump", "edge lists", "SMILES CSV", "label file", "metrics.jsonl", "summaries, body")  # fmt: skip


@pytest.mark.parametrize("name", TREES)
def test_any_json_is_read_or_refused(name, tmp_path):
    path = tmp_path / f"x{BY_NAME[name].ending}"

    @QUICK
    @given(JSON)
    def check(tree):
        content = BY_NAME[name].packed(json.dumps(tree).encode())
        assert not outcome(BY_NAME[name], path, content, seconds=60)[1], tree

    check()


@pytest.mark.parametrize("name", TEXTS)
def test_any_bytes_are_read_or_refused(name, tmp_path):
    path = tmp_path / f"x{BY_NAME[name].ending}"

    @QUICK
    @given(st.binary(max_size=200) | st.text("0123456789|\t\n,'\"()\\ ta-.eINSRT", max_size=200).map(str.encode))
    def check(content):
        assert not outcome(BY_NAME[name], path, BY_NAME[name].packed(content), seconds=60)[1], content

    check()


# ---- nothing in a folder runs ----


class Planted:
    """Unpickling this touches a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def bert_folder(folder: Path, **config) -> Path:
    folder.mkdir()
    small = {
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "intermediate_size": 8,
        "vocab_size": 12,
    }
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", **small, **config}))
    return folder


def model_loaders():
    from stillhouse.diffusion.denoiser import load_denoiser
    from stillhouse.encoders.models import load_classifier, load_encoder
    from stillhouse.encoders.multi_exit import load_trunk
    from stillhouse.encoders.tokens import load_tokenizer
    from stillhouse.methods.biomedical_relations.generative import load_generative
    from stillhouse.methods.forum_qa.reader import load_reader_model
    from stillhouse.methods.impossible.causal import load_language_model
    from stillhouse.methods.impossible.nli import load_encoder_critic
    from stillhouse.vision.teachers import transformers_classifier

    return [
        load_classifier,
        load_encoder,
        load_trunk,
        load_tokenizer,
        load_generative,
        load_reader_model,
        load_language_model,
        load_encoder_critic,
        load_denoiser,
        transformers_classifier,
    ]


def test_a_pickle_in_a_model_folder_is_never_opened(tmp_path):
    mark = tmp_path / "ran"
    bert_folder(tmp_path / "model")
    names = ("pytorch_model.bin", "diffusion_pytorch_model.bin", "model.pkl", "model.joblib", "training_args.bin", "tokenizer.pkl")  # fmt: skip
    for name in names:
        (tmp_path / "model" / name).write_bytes(pickle.dumps(Planted(mark)))
    for load in model_loaders():
        with pytest.raises(UserError) as error:
            load(tmp_path / "model")
        assert "\n" not in str(error.value), load
    assert not mark.exists()
    pickle.loads((tmp_path / "model" / names[0]).read_bytes())
    assert mark.exists(), "the planted pickle would have told"


def test_a_folder_brings_no_code_of_its_own(tmp_path, monkeypatch):
    mark = tmp_path / "ran"
    code = {
        "AutoConfig": "own.OwnConfig",
        "AutoModel": "own.OwnModel",
        "AutoModelForSequenceClassification": "own.OwnModel",
    }
    for name, kind in (("unknown", "never-heard-of"), ("known", "bert")):
        folder = bert_folder(tmp_path / name, model_type=kind, auto_map=code, architectures=["OwnModel"])
        (folder / "own.py").write_text(f"import pathlib\npathlib.Path({str(mark)!r}).touch()\n")
        monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a question to the user"))
        with at_most(60):
            for load in model_loaders():
                with pytest.raises(UserError):
                    load(folder)
    assert not mark.exists()


def test_an_npz_of_objects_and_one_of_any_size_are_refused(tmp_path, monkeypatch):
    from stillhouse.vision import image_files

    mark = tmp_path / "ran"
    np.savez(tmp_path / "a.npz", images=np.array([Planted(mark)], dtype=object))
    with pytest.raises(UserError, match="cannot be read"):
        image_files.read_npz(tmp_path / "a.npz")
    assert not mark.exists()
    np.savez_compressed(tmp_path / "b.npz", images=np.zeros((4, 64, 64), np.uint8))
    monkeypatch.setattr(image_files, "MOST_NPZ_BYTES", 4096)
    assert (tmp_path / "b.npz").stat().st_size < 4096
    with pytest.raises(UserError, match="unpacks to"):
        image_files.read_npz(tmp_path / "b.npz")


FORBIDDEN = {
    r"\b(?:pickle|cPickle|dill|marshal|shelve)\b": "pickles run code",
    r"\.extract(?:all)?\(": "members of archives are read by name, never unpacked",
    r"torch\.load\((?!.*weights_only=True)": "it unpickles",
    r"allow_pickle=True": "it unpickles",
    r"trust_remote_code=True": "it runs a folder's code",
    r"\byaml\.(?:unsafe_)?load\(": "it builds any object",
    r"shell=True": "a file's name may hold a command",
    r"(?<![\w.])(?:eval|exec)\(": "it runs text",
    r"\b(?:unsafe_allow_html|dangerouslySetInnerHTML)\b": "text becomes markup",
}


@pytest.mark.parametrize("pattern", FORBIDDEN)
def test_the_source_has_no_way_in(pattern):
    found = [
        f"{file.relative_to(SOURCE)}:{number}"
        for file in SOURCE.rglob("*.py")
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(pattern, line.split("#")[0]) and not re.match(r'\s*("""|\'\'\'|[A-Z].*\.$)', line)
    ]
    assert not found, FORBIDDEN[pattern]


# ---- bounds ----


def test_members_of_archives_stay_where_they_are(tmp_path):
    from stillhouse.graphs.tu import read_tu

    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("../X_A.txt", "1, 1\n")
    with pytest.raises(UserError, match="reaches outside"):
        read_tu(tmp_path / "a.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_a_number_without_end_in_a_tu_set_is_named(tmp_path):
    from fuzzing import TU, joined, zipped
    from stillhouse.graphs.tu import read_tu

    (tmp_path / "a.zip").write_bytes(zipped(joined({**TU, "X_graph_labels.txt": "1\n" + "9" * 400 + "\n"})))
    with pytest.raises(UserError, match=r"X_graph_labels\.txt is not a table of numbers"):
        read_tu(tmp_path / "a.zip")


def test_json_nests_no_deeper_than_the_stack(tmp_path):
    for text in ("[" * 100_000, '{"a":' * 100_000):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(UserError, match="nested too deep"):
            read_json(tmp_path / "a.json")
    with pytest.raises(ValueError, match="surrogate"):
        parse_json('{"a": "\\ud800"}')
    assert parse_json('["\\ud83d\\ude00"]') == ["😀"]


def test_an_error_is_one_bounded_line_that_leaves_the_terminal_alone():
    shown = str(UserError("a\x1b[2Jb\u202ec\nd\0e" + "x" * 100_000, "mend"))
    assert shown.isprintable() and len(shown) < 1300 and shown.endswith("; mend")
    assert one_line("a  b\nc") == "a b c" and one_line("größer ✓") == "größer ✓"


def test_a_mail_with_a_header_without_end_is_left_out_at_once(tmp_path):
    from stillhouse.corpus.readers import Losses, read_posts

    mail = "From a@x\nFrom: a@x\nDate: Thu, 02 Jan 2020 03:04:05 +0000\n{}\n\nhello\n\n"
    good, bad = mail.format("Content-Type: text/plain"), mail.format("Content-Type: text/plain; a=" + '{"a":' * 4000)
    (tmp_path / "a.mbox").write_text(good + bad + good)
    losses = Losses()
    with at_most(5):
        posts = list(read_posts(tmp_path / "a.mbox", losses=losses))
    assert len(posts) == 2 and losses.words().startswith("1 malformed mails")


def test_a_question_to_the_graph_is_bounded_in_time_and_rows(tmp_path, monkeypatch):
    from stillhouse.knowledge import queries
    from stillhouse.knowledge.store import Graph
    from test_knowledge import finding

    with Graph(tmp_path / "kg", write=True) as graph:
        graph.load({"a": "k"}, [finding("a", one=f"G{i}") for i in range(6)])
        pairs = "SELECT * WHERE { ?a ?b ?c . ?d ?e ?f }"
        monkeypatch.setattr(queries, "MOST_ROWS", 100)
        with pytest.raises(UserError, match="more than 100 rows"):
            queries.sparql(graph, pairs)
        # ends by itself after a second or two, long after it was given up
        triples = "SELECT (COUNT(*) AS ?n) WHERE { ?a ?p ?b . ?c ?q ?d . ?e ?r ?f FILTER(CONCAT(STR(?a), STR(?c), STR(?e)) = '') }"
        began = time.monotonic()
        with pytest.raises(UserError, match=r"longer than 0\.05 seconds"):
            queries.sparql(graph, triples, seconds=0.05)
        assert time.monotonic() - began < 5

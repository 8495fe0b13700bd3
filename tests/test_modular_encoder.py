"""ModularStarEncoder: losses, exits, training, the model and its exports, the index and the commands."""

import json
import math
import re
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

import stillhouse
from code_samples import write_repositories
from rows import ROWS
from stillhouse.cli import dispatch
from stillhouse.core.errors import UserError
from stillhouse.core.onnx_files import numpy_of, torch_call
from stillhouse.core.run import Run
from stillhouse.core.seeding import seed_everything
from stillhouse.corpus.code_sets import load_code
from stillhouse.encoders.models import minilm_folder
from stillhouse.encoders.multi_exit import (
    MultiExitEncoder,
    TrunkShape,
    cut_at,
    load_trunk,
    mean_of_tokens,
    new_trunk,
    start_from_frequencies,
)
from stillhouse.encoders.tokens import fingerprint, train_code_bpe
from stillhouse.methods import modular_encoder
from stillhouse.methods.modular_encoder import Config, losses
from stillhouse.methods.modular_encoder import index as index_module
from stillhouse.methods.modular_encoder.commands import function_at, open_run
from stillhouse.methods.modular_encoder.exporting import cut_model, export_exit, export_onnx
from stillhouse.methods.modular_encoder.index import Header, Index, Row, open_index, require_fit, update_index
from stillhouse.methods.modular_encoder.material import draw_windows, make_material, mixed_code
from stillhouse.methods.modular_encoder.model import ExitRow, Settings, load_model
from stillhouse.methods.modular_encoder.opening import open_encoder, open_tokenizer
from stillhouse.methods.modular_encoder.training import PretrainingHeads, Scales, kinds_of, pair_losses
from stops import stopped_and_resumed

TINY = {**ROWS["modular_encoder"], "compare": "none"}


def encoder_of(layers=3, exits=(1, 2, 3), width=32, seed=0):
    torch.manual_seed(seed)
    return MultiExitEncoder(new_trunk(TrunkShape(layers, width, 4, 2, 48), 50, 0), exits, width)


def a_batch(lengths=(7, 4, 2), seed=0):
    ids = torch.randint(5, 50, (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(seed))
    mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    return ids * mask, mask


# --- losses ---


def test_exit_weights_are_the_published_ones():
    weights = losses.exit_weights((4, 9, 18, 27, 36), 36, "depth")
    raw = [4 / 36, 9 / 36, 18 / 36, 27 / 36, 1]
    assert list(weights.values()) == pytest.approx([w / sum(raw) for w in raw])
    assert losses.exit_weights((1, 2), 2, "uniform") == {1: 0.5, 2: 0.5}
    assert losses.exit_weights((1, 2), 2, "last-only") == {1: 0, 2: 1}
    logs = losses.exit_weights((1, 3), 3, "log")
    assert logs[1] / logs[3] == pytest.approx(math.log(2) / math.log(4))


def test_contrastive_loss_is_the_mean_of_both_directions():
    scores = torch.tensor([[2.0, 0.0], [1.0, 3.0]])
    rows = -(2 - math.log(math.exp(2) + 1)) - (3 - math.log(math.exp(1) + math.exp(3)))
    columns = -(2 - math.log(math.exp(2) + math.exp(1))) - (3 - math.log(1 + math.exp(3)))
    nobody = torch.zeros(2, 2, dtype=torch.bool)
    assert float(losses.contrastive_loss(scores, nobody)) == pytest.approx((rows + columns) / 4)
    assert float(losses.contrastive_loss(torch.zeros(5, 5), torch.zeros(5, 5, dtype=torch.bool))) == pytest.approx(
        math.log(5)
    )


def test_a_pair_with_an_equal_side_is_no_negative():
    ignored = losses.false_negatives(torch.tensor([1, 1, 2]), torch.tensor([5, 6, 5]))
    assert ignored.tolist() == [[False, True, True], [True, False, False], [True, False, False]]
    scores = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    alone = losses.contrastive_loss(scores[:1, :1], torch.zeros(1, 1, dtype=torch.bool))
    assert float(alone) == 0
    everything = torch.ones(3, 3, dtype=torch.bool) & ~torch.eye(3, dtype=torch.bool)
    assert float(losses.contrastive_loss(scores, everything)) == pytest.approx(0)


def test_nothing_flows_into_the_deepest_exit_from_self_distillation():
    deep = torch.randn(4, 4, requires_grad=True)
    shallow = torch.randn(4, 4, requires_grad=True)
    nobody = torch.zeros(4, 4, dtype=torch.bool)
    loss = losses.self_distillation_loss(shallow, deep, nobody, 0.5)
    loss.backward()
    assert deep.grad is None and shallow.grad.abs().sum() > 0
    deep, shallow = deep.detach(), shallow.detach()
    expected = functional.kl_div((shallow / 0.5).log_softmax(-1), (deep / 0.5).softmax(-1), reduction="batchmean")
    assert float(loss.detach()) == pytest.approx(float(expected), rel=1e-5)
    assert float(losses.self_distillation_loss(deep, deep, ~torch.eye(4, dtype=torch.bool), 1.0)) == pytest.approx(
        0, abs=1e-6
    )


def test_the_scale_is_clamped_and_prefixes_are_unit():
    one = functional.normalize(torch.randn(2, 6), dim=-1)
    assert torch.equal(losses.similarities(one, one, torch.tensor(1e6)), 100 * one @ one.T)
    assert losses.prefix(one, 3).norm(dim=1).tolist() == pytest.approx([1, 1])
    total = losses.weighted_sum({1: torch.tensor(2.0), 2: torch.tensor(4.0)}, {1: 0.25, 2: 0.75})
    assert float(total) == pytest.approx(3.5)


# --- the encoder ---


def test_an_exit_is_the_same_cut_out_or_inside_and_padding_changes_nothing():
    encoder = encoder_of().eval()
    ids, mask = a_batch()
    whole = encoder(ids, mask, (1, 2, 3))
    for i in (1, 2, 3):
        cut = cut_at(encoder, i)
        assert cut.trunk.config.num_hidden_layers == i
        assert torch.allclose(cut(ids, mask, (i,))[i], whole[i], atol=1e-6)
        assert encoder.parameters_to(i) < sum(p.numel() for p in encoder.parameters()) or i == 3
    alone = encoder(ids[2:, :2], mask[2:, :2], (3,))[3]
    assert torch.allclose(alone[0], whole[3][2], atol=1e-5)


def test_every_token_sees_every_token():
    encoder = encoder_of().eval()
    ids, mask = a_batch((6,))
    changed = ids.clone()
    changed[0, -1] = 5 if ids[0, -1] != 5 else 6
    one, other = (encoder.states(x, mask, (1,))[1][0, 0] for x in (ids, changed))
    assert not torch.allclose(one, other, atol=1e-5)


def test_layers_behind_the_deepest_exit_asked_for_are_not_run():
    encoder = encoder_of().eval()
    ids, mask = a_batch()
    before = encoder(ids, mask, (1,))[1]
    ran = []
    for number, layer in enumerate(encoder.layers, 1):
        layer.register_forward_hook(lambda *_, n=number: ran.append(n))
    assert torch.equal(encoder(ids, mask, (1,))[1], before) and ran == [1]
    encoder(ids, mask, (2,))
    assert ran == [1, 1, 2]


def test_an_exit_of_no_weight_has_no_gradient_and_layers_learn_for_those_above():
    encoder = encoder_of()
    ids, mask = a_batch()
    made = encoder(ids, mask, (2,))
    made[2][:, 0].sum().backward()
    grads = [any(p.grad is not None for p in layer.parameters()) for layer in encoder.trunk.layers]
    assert grads == [True, True, False]


def test_the_mean_is_over_real_tokens():
    state = torch.arange(12.0).reshape(1, 4, 3)
    mask = torch.tensor([[True, True, False, False]])
    assert mean_of_tokens(state, mask).tolist() == [[1.5, 2.5, 3.5]]


def test_transformers_own_forward_pass_reads_a_saved_exit(tmp_path):
    from transformers import AutoModel

    encoder = encoder_of().eval()
    ids, mask = a_batch()
    cut_at(encoder, 2).trunk.save_pretrained(tmp_path / "cut")
    state = AutoModel.from_pretrained(tmp_path / "cut")(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    assert torch.allclose(state[mask], encoder.states(ids, mask, (2,))[2][mask], atol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra"])
def test_encoders_of_bert_type_get_exits(tmp_path, kind):
    from transformers import AutoConfig, AutoModel

    shape = {
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "vocab_size": 50,
        "max_position_embeddings": 40,
    }
    shape |= {"embedding_size": 16} if kind == "electra" else {}
    torch.manual_seed(0)
    AutoModel.from_config(AutoConfig.for_model(kind, **shape)).save_pretrained(tmp_path / kind)
    trunk = load_trunk(tmp_path / kind)
    encoder = MultiExitEncoder(trunk, (1, 3), 32).eval()
    ids, mask = a_batch()
    ids = torch.where(mask, ids, trunk.config.pad_token_id)
    found = encoder.states(ids, mask, (1, 3))
    theirs = trunk(input_ids=ids, attention_mask=mask.long(), output_hidden_states=True).hidden_states
    for i in (1, 3):
        assert torch.allclose(found[i][mask], theirs[i][mask], atol=1e-5)
        assert torch.allclose(cut_at(encoder, i)(ids, mask, (i,))[i], encoder(ids, mask, (i,))[i], atol=1e-6)
    assert load_trunk(tmp_path / kind, 2).config.num_hidden_layers == 2
    with pytest.raises(UserError, match="5 layers are asked for"):
        load_trunk(tmp_path / kind, 5)


def test_a_starcoder_folder_loses_its_causal_mask(tmp_path):
    from transformers import Starcoder2Config, Starcoder2Model

    config = Starcoder2Config(
        vocab_size=50,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=48,
        sliding_window=3,
        pad_token_id=0,
    )
    Starcoder2Model(config).save_pretrained(tmp_path / "star")
    trunk = load_trunk(tmp_path / "star").eval()
    assert trunk.config.sliding_window is None
    ids, _ = a_batch((6,))
    changed = ids.clone()
    changed[0, -1] = 5 if ids[0, -1] != 5 else 6
    first = [trunk(input_ids=x).last_hidden_state[0, 0] for x in (ids, changed)]
    assert not torch.allclose(*first, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: encoder_of(exits=(1, 5)), "exits 1, 5 do not fit 3 layers"),
        (lambda: encoder_of(exits=(2, 1)), "do not fit"),
        (lambda: new_trunk(TrunkShape(1, 30, 4, 2, 8), 9, 0), "even multiple"),
        (lambda: new_trunk(TrunkShape(1, 32, 4, 3, 8), 9, 0), "cannot share 3"),
        (lambda: encoder_of()(*a_batch(), (4,)), "no exit 4"),
        (lambda: load_trunk(Path("nowhere")), "no transformers model"),
    ],
)
def test_wrong_shapes_are_one_line(make, said):
    with pytest.raises(UserError, match=said):
        make()


def test_word_vectors_start_as_a_bag_of_words_by_inverse_frequency():
    encoder = encoder_of(width=64)
    counts = torch.ones(50)
    counts[7] = 5000
    torch.manual_seed(0)
    start_from_frequencies(encoder, counts)
    words = functional.normalize(encoder.trunk.embed_tokens.weight.detach(), dim=1)
    assert words[7, 0] > 0.9 and words[8:, 0].abs().mean() < 0.6
    assert all(projection.weight[:, 0].abs().sum() == 0 for projection in encoder.projections.values())


# --- the tokenizer ---


def test_names_are_cut_into_words_and_the_pieces_are_the_same_every_time():
    texts = ["the response header of getResponseHeader and response_header", "def parseHTML5Page(x): return x"] * 5
    tokenizer = train_code_bpe(texts, 300, 64, ("[TEXT]", "[CODE]"))
    pieces = [
        tokenizer.convert_ids_to_tokens(tokenizer(t)["input_ids"])
        for t in ("getResponseHeader", "get_response_header", "get response header")
    ]
    assert pieces[0] == pieces[1] == pieces[2] == ["[CLS]", "▁get", "▁response", "▁header", "[SEP]"]
    assert tokenizer.convert_ids_to_tokens(tokenizer("[CODE] x")["input_ids"])[1] == "[CODE]"
    # hash tables start from other numbers every time: with marks behind words this fails
    many = [f"{text} {i} word{i}" for i, text in enumerate(texts * 20)]
    assert len({fingerprint(train_code_bpe(many, 300, 64)) for _ in range(4)}) == 1


# --- training ---


@pytest.fixture(scope="module")
def code_folder(tmp_path_factory):
    return write_repositories(tmp_path_factory.mktemp("code") / "code", repositories=4, files=8)


@pytest.fixture(scope="module")
def config(code_folder):
    return Config(**{**TINY, "data": str(code_folder)})


@pytest.fixture(scope="module")
def material(config):
    code = load_code(config.data, 0, 0)
    return make_material(code, open_tokenizer(config, code.train), config)


def test_windows_hold_two_snippets_of_one_repository_or_of_two(material):
    seed_everything("windows")
    index = np.arange(40)
    ids, mask, same = draw_windows(material.windows, index, 0)
    assert 0.2 < float(same.mean()) < 0.8
    separators = (ids == material.tokenizer.sep_token_id).sum(1)
    assert separators.tolist() == [2] * 40 and (ids[:, 0] == material.tokenizer.cls_token_id).all()
    assert mask.sum() == (ids != 0).sum()
    first = ids[3, : int(material.windows.snippets.lengths[3])].numpy()
    assert (first == material.windows.snippets.row(3)).all()


def test_the_exit_embedding_is_all_that_tells_the_shared_heads_the_depth():
    encoder = encoder_of()
    heads = PretrainingHeads(encoder)
    states = torch.randn(4, 32)
    assert not torch.equal(heads.token_logits(states, 1), heads.token_logits(states, 3))
    torch.nn.init.zeros_(heads.depth.weight)
    assert torch.equal(heads.token_logits(states, 1), heads.token_logits(states, 3))
    assert heads.context_logits(torch.randn(4, 6, 32), 2).shape == (4,)


def test_updates_take_the_asked_share_of_code_pairs():
    code, before = kinds_of(2000, 0.25, 0)
    assert code.mean() == pytest.approx(0.25, abs=0.03)
    assert before[code].tolist() == list(range(code.sum())) and before[~code].tolist() == list(range((~code).sum()))
    assert not kinds_of(50, 0.0, 0)[0].any() and kinds_of(50, 1.0, 0)[0].all()


def test_a_share_of_the_codes_has_other_names(material):
    index = np.arange(30)
    pairs = material.text_pairs
    assert (mixed_code(pairs, index, 0.0).ids == pairs.second.take(index).ids).all()
    assert (mixed_code(pairs, index, 1.0).ids == pairs.renamed.take(index).ids).all()
    assert len(pairs.renamed.ids) != len(pairs.second.ids) or (pairs.renamed.ids != pairs.second.ids).any()


def test_the_loss_of_pairs_is_the_weighted_mean_over_exits_and_prefixes(material, config):
    seed_everything("losses")
    plain = replace(config, renamed=0.0, matryoshka=(8,))
    encoder = open_encoder(plain, material.tokenizer, material.counts)
    assert torch.equal(*(encoder(*a_batch(), (1, 2))[i] for i in (1, 2)))  # no exit begins behind another
    for layer in encoder.trunk.layers:
        torch.nn.init.normal_(layer.mlp.c_proj.weight, std=0.1)
    scales = Scales(encoder.exits, 20.0)
    index, pairs = np.arange(6), material.text_pairs
    weights = losses.exit_weights(encoder.exits, 2, "depth")
    found = pair_losses(encoder, scales, pairs, index, plain, 0, weights)["contrast"]
    by_hand = 0.0
    from stillhouse.encoders.batches import padded

    sides = [encoder(*padded(part, index, 0), encoder.exits) for part in (pairs.first, pairs.second)]
    for i in encoder.exits:
        for size in (32, 8):
            scores = 20 * losses.prefix(sides[0][i], size) @ losses.prefix(sides[1][i], size).T
            target = torch.arange(6)
            by_hand += (
                weights[i]
                / 2
                * (functional.cross_entropy(scores, target) + functional.cross_entropy(scores.T, target))
                / 2
            )
    assert float(found.detach()) == pytest.approx(float(by_hand.detach()), rel=1e-5)
    pulled = pair_losses(encoder, scales, pairs, index, replace(plain, self_distillation=1.0), 0, weights)
    assert pulled["self-distillation"] > 0


@pytest.fixture(scope="module")
def run(code_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "run"
    return stillhouse.run("modular_encoder", out=out, quiet=True, **{**TINY, "data": str(code_folder)})


@pytest.fixture(scope="module")
def model(run):
    return stillhouse.load(run.folder)


def test_training_learns(code_folder, tmp_path):
    options = {
        **TINY,
        "data": str(code_folder),
        "updates": 40,
        "rate": 3e-3,
        "matryoshka": (),
        "pretraining_updates": 10,
    }
    found = stillhouse.run("modular_encoder", out=tmp_path / "run", quiet=True, **options)
    lines = [line for line in found.records(stage="fine-tuning") if "contrast" in line]
    start, end = (np.mean([line["contrast"] for line in part]) for part in (lines[:5], lines[-5:]))
    assert end < 0.8 * start
    first = found.records(stage="pre-training")
    assert first[-1]["tokens"] < first[0]["tokens"]


@pytest.mark.parametrize("stage", ["pre-training", "fine-tuning"])
def test_a_stop_in_either_stage_changes_nothing(run, code_folder, tmp_path, monkeypatch, stage):
    options = {**TINY, "data": str(code_folder)}
    resumed = stopped_and_resumed("modular_encoder", options, tmp_path / "run", stage, 1, monkeypatch)
    one, two = ((r.model_folder / "model.safetensors").read_bytes() for r in (run, resumed))
    assert one == two
    metrics = [[arm.metrics for arm in r.result.arms] for r in (run, resumed)]
    assert metrics[0] == metrics[1]


def test_a_run_with_all_arms_and_options(code_folder, tmp_path):
    options = {
        **TINY,
        "data": str(code_folder),
        "compare": "all",
        "self_distillation": 0.5,
        "weights": "uniform",
        "judged": 10,
    }
    found = stillhouse.run("modular_encoder", out=tmp_path / "run", quiet=True, **options).result
    names = [arm.name for arm in found.arms]
    chosen = json.loads((tmp_path / "run" / "model" / "exits.json").read_text())["table"]
    assert set(names[:2]) == {"exit 1", "exit 2"} and len(chosen) == 2
    for name in (
        "BM25",
        "MiniLM, zero-shot",
        "before training, exit 2",
        "chance",
        "1-layer model alone",
        "last-only training, exit 1",
    ):
        assert name in names
    depth = {arm.name: arm.cost.parameters for arm in found.arms}
    assert depth["1-layer model alone"] == depth["exit 1"] < depth["exit 2"]
    assert any("extension" in note for note in found.notes)
    assert {curve.arm for curve in found.curves} == {"exit 1", "exit 2"}


def test_one_repository_leaves_the_contextual_loss_out(tmp_path):
    write_repositories(tmp_path / "code", repositories=1, files=30)
    single = tmp_path / "code" / "repo0"
    found = stillhouse.run("modular_encoder", out=tmp_path / "run", quiet=True, **{**TINY, "data": str(single)})
    assert "context" not in found.records(stage="pre-training")[0]
    assert any("One repository" in note for note in found.result.notes)


# --- the model ---


def test_a_saved_model_says_what_the_trained_one_said(model, run):
    again = load_model(run.model_folder)
    texts = ["load the table", "save the image to disk"]
    for exit in model.exits:
        assert np.array_equal(again.encode(texts, "text", exit), model.encode(texts, "text", exit))
    assert again.hash() == model.hash()
    assert not np.allclose(model.encode(texts, "text", 1), model.encode(texts, "code", 1))
    assert model.encode([], "text", 1).shape == (0, 32)
    assert np.linalg.norm(model.encode(texts, "text", 2, dimensions=8), axis=1) == pytest.approx([1, 1])


def test_auto_is_the_shallowest_exit_near_the_best():
    table = (ExitRow(1, 1, 0.60, 1.0), ExitRow(2, 2, 0.78, 2.0), ExitRow(3, 3, 0.80, 3.0), ExitRow(4, 4, 0.79, 4.0))
    assert Settings("", "", 8, 8, 0.97, table).recommended == 2
    assert Settings("", "", 8, 8, 1.0, table).recommended == 3
    with pytest.raises(UserError, match="no table"):
        _ = Settings("", "", 8, 8).recommended


@pytest.mark.parametrize("exit", [1, 2])
def test_an_exported_exit_is_the_exit_everywhere(model, tmp_path, exit):
    from sentence_transformers import SentenceTransformer

    cut = export_exit(model, exit, tmp_path / "exit")
    texts = ["def add(a, b):\n    return a + b", "x"]
    expected = model.encode(texts, "code", exit)
    assert np.abs(load_model(tmp_path / "exit").encode(texts, "code", exit) - expected).max() < 1e-6
    theirs = SentenceTransformer(str(tmp_path / "exit"), device="cpu").encode(texts, prompt_name="document")
    assert np.abs(theirs - expected).max() < 1e-5
    assert export_onnx(cut, tmp_path / "exit" / "model.onnx") < 1e-5
    with pytest.raises(UserError, match="not an empty folder"):
        export_exit(model, exit, tmp_path / "exit")
    assert cut_model(model, exit).settings.recommended == exit


def test_damaged_models_are_named(run, tmp_path):
    import shutil

    shutil.copytree(run.model_folder, tmp_path / "model")
    heads = tmp_path / "model" / "heads.safetensors"
    heads.write_bytes(heads.read_bytes()[:-40])
    with pytest.raises(UserError, match=r"heads\.safetensors is damaged"):
        load_model(tmp_path / "model")
    (tmp_path / "model" / "exits.json").write_text("{}")
    with pytest.raises(UserError, match="not of this version"):
        load_model(tmp_path / "model")
    with pytest.raises(UserError, match="no code encoder in"):
        open_run(tmp_path / "elsewhere")


# --- the index ---


def test_every_exit_by_itself_finds_what_the_model_finds(run, model):
    """The networks that an export writes: same embeddings, and the metric falls with a network that says nothing."""
    portable = modular_encoder.portable(run.folder)
    calls = {network.name: torch_call(network) for network in portable.networks}
    given = numpy_of(portable.networks[0].inputs)
    kept = portable.quality(calls)
    assert list(kept) == [f"mrr_{i}" for i in model.exits]
    silent = {name: lambda arrays: [np.zeros((len(arrays["input_ids"]), 4), "f")] for name in calls}
    assert all(kept[key] > value for key, value in portable.quality(silent).items())
    for network, copy in zip(portable.networks, portable.opens["safetensors"](run.folder / "model"), strict=True):
        assert np.abs(torch_call(network, copy)(given)[0] - calls[network.name](given)[0]).max() < 1e-6


@pytest.fixture
def indexed(model, run, tmp_path):
    folder = write_repositories(tmp_path / "project", repositories=2, files=3)
    header = Header(model.hash(), 1, True, str(run.folder), str(folder))
    found, counts, _ = update_index(folder, tmp_path / "index", header, model, quiet=True)
    assert counts == {"read": 6, "unchanged": 0, "gone": 0} and len(found.rows) == 18
    return folder, tmp_path / "index", header


def test_an_index_follows_its_folder(indexed, model, monkeypatch):
    folder, place, header = indexed
    before = open_index(place)
    (folder / "repo0" / "module0.py").unlink()
    changed = folder / "repo1" / "module1.py"
    changed.write_text("def brand_new(value):\n    return value + 1\n")
    (folder / "repo1" / "module2.py").touch()  # touched, not changed
    after, counts, _ = update_index(folder, place, header, model, quiet=True)
    assert counts == {"read": 1, "unchanged": 4, "gone": 1}
    assert "brand_new" in [row.name for row in after.rows] and len(after.rows) == 18 - 3 - 3 + 1
    kept = {(r.path, r.line): v for r, v in zip(after.rows, after.vectors, strict=True)}
    same = [
        (np.array_equal(kept[r.path, r.line], v))
        for r, v in zip(before.rows, before.vectors, strict=True)
        if (r.path, r.line) in kept and r.path != "repo1/module1.py"
    ]
    assert len(same) == 12 and all(same)
    monkeypatch.setattr(index_module, "embed_functions", None)  # nothing may be embedded again
    _, counts, _ = update_index(folder, place, header, model, quiet=True)
    assert counts["read"] == 0


def test_the_vector_of_a_function_is_that_of_its_text(indexed, model):
    _, place, _ = indexed
    found = open_index(place)
    assert found.rows[0].line == 1 and found.rows[0].name
    function, _ = function_at(f"{indexed[0] / found.rows[0].path}:3")
    vector = model.encode([f"{function.doc}\n{function.code}"], "code", 1)[0]
    assert found.vectors[0] == pytest.approx(vector, abs=1e-6)
    assert found.search(vector, 3)[0] == (found.rows[0], pytest.approx(1, abs=1e-5))
    assert len(found.search(vector, 99)) == 18


def test_an_interrupted_indexing_goes_on_where_it_was(model, run, tmp_path, monkeypatch):
    folder = write_repositories(tmp_path / "project", repositories=2, files=3)
    place, header = tmp_path / "index", Header(model.hash(), 1, True, str(run.folder), str(folder))
    monkeypatch.setattr(index_module, "PART_FUNCTIONS", 3)
    embed, calls = index_module.embed_functions, []

    def dying(found, *rest):
        calls.append(len(found))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return embed(found, *rest)

    monkeypatch.setattr(index_module, "embed_functions", dying)
    with pytest.raises(KeyboardInterrupt):
        update_index(folder, place, header, model, quiet=True)
    with pytest.raises(UserError, match="no index in"):
        open_index(place)
    torn = sorted((place / "parts").glob("*.safetensors"))[0]
    torn.write_bytes(torn.read_bytes()[:-9])  # a part that the disk lost is read again
    found, counts, _ = update_index(folder, place, header, model, quiet=True)
    assert len(found.rows) == 18 and counts["read"] == 4
    whole, _, _ = update_index(folder, tmp_path / "other", header, model, quiet=True)
    assert found.rows == whole.rows and np.allclose(found.vectors, whole.vectors, atol=1e-6)
    assert not (place / "parts").exists()


def test_an_index_that_does_not_fit_is_refused(indexed, model, code_folder, tmp_path):
    folder, place, header = indexed
    with pytest.raises(UserError, match="holds vectors of exit 1, and exit 2 has another space"):
        open_index(place, exit=2)
    with pytest.raises(UserError, match="exit 2 has another space"):
        update_index(folder, place, replace(header, exit=2), model, quiet=True)
    with pytest.raises(UserError, match="another model made it"):
        update_index(folder, place, replace(header, model="other"), model, quiet=True)
    other = cut_model(model, 1)
    with torch.no_grad():
        other.encoder.projections["1"].weight.mul_(1.5)
    with pytest.raises(UserError, match="another model made it"):
        require_fit(open_index(place), other)
    rebuilt, _, _ = update_index(
        folder, place, replace(header, model=other.hash(), exit=1), other, rebuild=True, quiet=True
    )
    require_fit(rebuilt, other)


@pytest.mark.parametrize(
    "harm", [lambda b: b[:-100], lambda b: b[:200] + bytes([b[200] ^ 1]) + b[201:], lambda b: b"not an index"]
)
def test_a_corrupt_or_foreign_index_is_named(indexed, harm):
    _, place, _ = indexed
    file = index_module.index_file(place)
    file.write_bytes(harm(file.read_bytes()))
    with pytest.raises(UserError, match="is damaged or no index"):
        open_index(place)


def test_many_vectors_are_searched_by_a_graph(tmp_path, monkeypatch):
    monkeypatch.setattr(index_module, "EXACT_BELOW", 400)
    random = np.random.default_rng(0)
    centres = random.normal(size=(40, 16))
    vectors = (centres[np.arange(1000) % 40] + 0.3 * random.normal(size=(1000, 16))).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = tuple(Row(f"f{i}.py", 1, 2, "f", "python") for i in range(1000))
    found = Index(Header("m", 1, True, "", ""), {}, rows, vectors, tmp_path)
    index_module._write_graph(tmp_path, vectors)
    hits = 0
    for query in vectors[:50]:
        exact = set(np.argsort(-(vectors @ query))[:10].tolist())
        answers = found.search(query, 10)
        assert answers[0][1] == pytest.approx(1, abs=1e-5)
        hits += len(exact & {int(re.sub(r"\D", "", row.path)) for row, _ in answers})
    assert hits / 500 > 0.95
    index_module._write_graph(tmp_path, vectors[:10])
    assert not list(tmp_path.glob("hnsw-*"))
    with pytest.raises(UserError, match="missing or damaged"):
        found.search(vectors[0], 3)


def test_a_search_of_fifty_thousand_vectors_is_quick():
    vectors = np.random.default_rng(0).normal(size=(50_000 - 1, 128)).astype(np.float32)
    found = Index(
        Header("m", 1, True, "", ""), {}, tuple(Row("f", 1, 1, "f", "python") for _ in vectors), vectors, Path()
    )
    found.search(vectors[0], 10)
    taken = []
    for _ in range(5):
        started = time.process_time()
        found.search(vectors[0], 10)
        taken.append(time.process_time() - started)
    assert min(taken) < 0.05


# --- commands ---


def test_the_commands_as_a_user_types_them(run, tmp_path, capsys, monkeypatch):
    folder = write_repositories(tmp_path / "project", repositories=2, files=3)
    (folder / "repo0" / "binary.py").write_bytes(b"\x00\x01")
    dispatch(["code", "index", str(folder), "--run", str(run.folder), "--exit", "1", "--quiet"])
    said = capsys.readouterr().out
    assert "18 functions at exit 1" in said and "1 binary files" in said
    monkeypatch.chdir(folder / "repo0")
    dispatch(["code", "search", "load the table", "--top", "2"])
    said = capsys.readouterr().out
    assert "18 functions searched at exit 1" in said and ".py:" in said and ">" in said
    dispatch(["code", "similar", "module0.py:3", "--top", "3", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["exit"] == 1 and len(told["results"]) == 3
    own, _ = function_at("module0.py:3")
    assert (own.name, "repo0/module0.py") not in [(r["name"], r["file"]) for r in told["results"]]
    assert told["results"][0]["text"].startswith("def ")
    dispatch(["code", "exits", str(run.folder)])
    assert "recommended" in capsys.readouterr().out
    dispatch(["code", "export", str(run.folder), "--exit", "2", "--out", str(tmp_path / "exit"), "--onnx"])
    assert "exit 2" in capsys.readouterr().out and (tmp_path / "exit" / "model.onnx").exists()
    dispatch(
        ["code", "index", str(folder), "--run", str(tmp_path / "exit"), "--index", str(tmp_path / "other"), "--quiet"]
    )
    assert "at exit 2" in capsys.readouterr().out


def test_a_moved_run_is_named_with_run(run, tmp_path, monkeypatch, capsys):
    import shutil

    folder = write_repositories(tmp_path / "project", repositories=1, files=1)
    shutil.copytree(run.model_folder, tmp_path / "model")
    dispatch(["code", "index", str(folder), "--run", str(tmp_path / "model"), "--exit", "1", "--quiet"])
    (tmp_path / "model").rename(tmp_path / "moved")
    monkeypatch.chdir(folder)
    with pytest.raises(UserError, match="no code encoder in"):
        dispatch(["code", "search", "load"])
    dispatch(["code", "search", "load", "--run", str(tmp_path / "moved")])
    assert "searched" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["search", " "], "an empty query"),
        (["search", "x"], "no index here or above"),
        (["similar", "m.py"], "is not FILE:LINE"),
        (["similar", "nowhere.py:3"], "no file nowhere.py"),
        (["similar", "notes.txt:1"], "in no language"),
        (["similar", "m.py:1"], "no function around line 1"),
        (["exits", "."], "no code encoder"),
    ],
)
def test_wrong_commands_are_one_line(tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.py").write_text("x = 1\n")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(UserError, match=said):
        dispatch(["code", *arguments])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tasks": ("magic",)}, "no tasks 'magic'"),
        ({"tasks": ()}, "nothing is judged"),
        ({"weights": "steep"}, "weights"),
        ({"tasks": ("humaneval-x",), "translations": ("humaneval-x",)}, "trained on and judged"),
        ({"matryoshka": (64,)}, "not shorter than 32"),
        ({"renamed": 1.5}, "renamed is 1.5"),
        ({"updates": 0}, "updates is 0"),
        ({"batch": 1}, "no negatives"),
        ({"exits": (1, 9)}, "exits 1, 9 do not fit"),
        ({"encoder": "./nowhere"}, "nowhere"),
        ({"data": "./nowhere"}, "no folder"),
        ({"translations": ("nowhere.jsonl",)}, "no file"),
    ],
)
def test_wrong_options_are_one_line(code_folder, tmp_path, options, said):
    with pytest.raises(UserError, match=said):
        stillhouse.run(
            "modular_encoder", out=tmp_path / "run", quiet=True, **{**TINY, "data": str(code_folder), **options}
        )
    assert not (tmp_path / "run").exists()


def test_a_local_encoder_is_started_from(code_folder, tmp_path):
    assert minilm_folder().exists()
    options = {
        **TINY,
        "data": str(code_folder),
        "encoder": "minilm",
        "dimensions": 64,
        "updates": 1,
        "pretraining_updates": 1,
        "batch": 4,
        "pretraining_batch": 2,
        "judged": 4,
    }
    found = stillhouse.run("modular_encoder", out=tmp_path / "run", quiet=True, **options)
    loaded = stillhouse.load(found.folder)
    assert loaded.encoder.trunk.config.model_type == "bert" and loaded.exits == (1, 2)
    with pytest.raises(UserError, match="reads 512"):
        stillhouse.run("modular_encoder", out=tmp_path / "other", quiet=True, **{**options, "max_code_tokens": 4000})
    assert isinstance(found, Run)

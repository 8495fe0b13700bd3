"""Fair synthetic tables: the equations against closed forms, what must hold by construction, the commands, bad input."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch.distributions import Normal, kl_divergence

import stillhouse
from rows import ROWS
from stillhouse import cli
from stillhouse.core.errors import UserError
from stillhouse.core.run import Run
from stillhouse.methods import fair_tables
from stillhouse.methods.fair_tables import losses, pipeline
from stillhouse.methods.fair_tables.baselines import TabFairGAN, parity_gap, sample_marginals
from stillhouse.methods.fair_tables.networks import FairVAE, FlowSampler, NoiseSampler
from stillhouse.methods.fair_tables.sampler import FairImages, FairTable
from stillhouse.methods.fair_tables.stages import Data, Penalty, Plan, StudentLoss, distil_student, train_noise_sampler
from stillhouse.methods.fair_tables.table_syntax import TableSyntax
from stillhouse.tables.codec import Block
from stillhouse.tables.fairness import association
from stillhouse.tables.reading import read_table
from stillhouse.tables.schema import Column

TINY = {**ROWS["fair_tables"], "measured_rows": 300}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return stillhouse.run("fair_tables", out=tmp_path_factory.mktemp("fair") / "run", quiet=True, **TINY)


@pytest.fixture(scope="module")
def table(run):
    return stillhouse.load(run.folder)


def posteriors(n=60, d=1, seed=0):
    torch.manual_seed(seed)
    return torch.randn(n, d).double(), (0.3 * torch.randn(n, d) - 1).double(), torch.arange(n) % 3


# ---- the equations


def test_distance_covariance_is_the_integral():
    mu, logvar, s = posteriors()
    grid = torch.linspace(-8, 8, 4001).double()
    density = torch.exp(Normal(mu, (0.5 * logvar).exp()).log_prob(grid[None]))
    total = density.mean(0)
    exact = sum(
        (s == k).double().mean() ** 2 * torch.trapezoid((density[s == k].mean(0) - total) ** 2, grid) for k in range(3)
    )
    assert losses.distance_covariance(mu, logvar, s) == pytest.approx(float(exact), rel=1e-6)


def test_log_overlap_and_its_gradient():
    mu, logvar, _ = posteriors(6, 5)
    other, other_logvar, _ = posteriors(4, 5, seed=1)
    inputs = [t.requires_grad_() for t in (mu, logvar.exp(), other, other_logvar.exp())]
    exact = sum(
        Normal(inputs[2][:, d], (inputs[1][:, None, d] + inputs[3][None, :, d]).sqrt()).log_prob(inputs[0][:, None, d])
        for d in range(5)
    )
    torch.testing.assert_close(losses.log_overlap(*inputs), exact)
    assert torch.autograd.gradcheck(losses.log_overlap, [t.detach().requires_grad_() for t in inputs])


def test_blocks_of_pairs_change_nothing(monkeypatch):
    mu, logvar, s = posteriors(50, 4)

    def value_and_gradient():
        leaf = mu.clone().requires_grad_()
        value = losses.distance_covariance(leaf, logvar, s) + losses.relative_dependence(leaf, logvar, s, (0.0, 1.0))
        value.backward()
        return value.detach(), leaf.grad

    whole = value_and_gradient()
    monkeypatch.setattr(losses, "ROWS_AT_ONCE", 7)
    for one, other in zip(whole, value_and_gradient(), strict=True):
        torch.testing.assert_close(one, other)


def test_the_log_domain_survives_what_plain_numbers_do_not():
    mu, s = 50 * torch.randn(40, 32), torch.arange(40) % 2
    logvar = torch.full_like(mu, -10.0)
    mu.requires_grad_()
    value = losses.relative_dependence(mu, logvar, s)
    value.backward()
    assert value.isfinite()
    assert mu.grad.isfinite().all()


def test_relative_dependence_knows_dependence_and_has_no_unit():
    torch.manual_seed(0)
    mu, logvar, s = torch.randn(2000, 2), torch.full((2000, 2), -1.0), torch.randint(0, 2, (2000,))
    assert abs(losses.relative_dependence(mu, logvar, s)) < 0.005, "independent"
    shifted = mu + 2 * s[:, None]
    dependent = losses.relative_dependence(shifted, logvar, s)
    assert dependent > 0.1
    scaled = losses.relative_dependence(10 * shifted, logvar + 2 * math.log(10), s)
    assert scaled == pytest.approx(float(dependent), rel=1e-4)


def test_reweighing_makes_label_and_group_independent():
    s, y = torch.tensor([0, 0, 0, 1]), torch.tensor([0, 0, 1, 1])
    # p(s) p(y) / p(s, y): 3/4 1/2 / (2/4), 3/4 1/2 / (1/4), 1/4 1/2 / (1/4)
    weights = losses.reweighing(s, y)
    assert weights.tolist() == [[0.75, 1.5], [0.0, 0.5]]
    s, y = torch.arange(600) % 3, ((torch.arange(600) % 3 == 0) ^ (torch.arange(600) % 7 == 0)).long()
    mu = 4 * y[:, None] + torch.randn(600, 1, generator=torch.Generator().manual_seed(0))
    logvar = torch.full_like(mu, -2.0)
    assert losses.relative_dependence(mu, logvar, s) > 0.1, "z tells the label, and so the group"
    assert abs(losses.relative_dependence(mu, logvar, s, weights=losses.reweighing(s, y)[s, y])) < 0.01


def test_a_weight_of_two_is_a_row_twice():
    mu, logvar, s = posteriors(30, 2)
    twice = torch.cat([torch.arange(30), torch.arange(10)])
    weights = torch.where(torch.arange(30) < 10, 2.0, 1.0).double()
    expected = losses.distance_covariance(mu[twice], logvar[twice], s[twice])
    torch.testing.assert_close(losses.distance_covariance(mu, logvar, s, weights), expected)


def test_student_losses():
    mu, logvar, _ = posteriors(20, 3)
    other, other_logvar, _ = posteriors(20, 3, seed=1)
    one, two = Normal(mu, (logvar / 2).exp()), Normal(other, (other_logvar / 2).exp())
    expected = kl_divergence(one, two).sum(1).mean()
    assert losses.utility_loss(mu, logvar, other, other_logvar) == pytest.approx(float(expected))
    assert losses.utility_loss(mu, logvar, mu, logvar) == pytest.approx(0, abs=1e-9)
    assert losses.quality_loss(torch.tensor([[0.0, 1.0]]), torch.tensor([[2.0, 4.0]])) == 5
    prior = kl_divergence(one, Normal(0.0, 1.0)).sum(1).mean()
    assert losses.kl_to_prior(mu, logvar) == pytest.approx(float(prior))


def test_distances_of_samples():
    one, other = torch.tensor([[0.0], [2.0]]), torch.tensor([[3.0], [1.0]])
    assert losses.sliced_wasserstein(one, other, torch.ones(1, 1)) == 1, "sorted pairs (0, 1) and (2, 3)"
    # 2 mean(|0-3|, |0-1|, |2-3|, |2-1|) - 2 - 2
    assert losses.energy_distance(one, other) == pytest.approx(2 * 1.5 - 2 - 2)
    a, b = torch.randn(2000, 3, generator=torch.Generator().manual_seed(0)).chunk(2)
    assert abs(losses.energy_distance(a, b)) < 0.02 < losses.energy_distance(a, b + 1)


CATEGORY = Block(Column("c", "categorical", "str", ("a", "b", "c")), 0, 3, False)
MONEY = Block(Column("m", "mixed", "float64", (0.0,)), 3, 2, True)


def test_table_likelihood_by_hand():
    syntax = TableSyntax((CATEGORY, MONEY))
    output = torch.zeros(2, 3 + 4)
    on_atom, free = torch.tensor([0, 1, 0, 1, 0, 0.0]), torch.tensor([1, 0, 0, 0, 1, 0.0])
    half_log = 0.5 * math.log(2 * math.pi)
    nats = syntax.nats(output, torch.stack([on_atom, free]))
    assert nats.tolist() == pytest.approx([math.log(3) + math.log(2), math.log(3) + math.log(2) + half_log])


def test_table_divergence_and_draws():
    syntax = TableSyntax((CATEGORY, MONEY))
    torch.manual_seed(0)
    teacher, student = 0.5 * torch.randn(4, 7), 0.5 * torch.randn(4, 7)
    assert syntax.divergence(teacher, teacher).abs().max() < 1e-6
    probabilities = teacher[:, :3].softmax(1)
    expected = (probabilities * (probabilities.log() - student[:, :3].log_softmax(1))).sum(1)
    gate_t, gate_s = (torch.distributions.Categorical(logits=o[:, 3:5]) for o in (teacher, student))
    normal_t, normal_s = (Normal(o[:, 5], o[:, 6].exp()) for o in (teacher, student))
    expected = expected + kl_divergence(gate_t, gate_s) + gate_t.probs[:, 1] * kl_divergence(normal_t, normal_s)
    torch.testing.assert_close(syntax.divergence(teacher, student), expected)
    drawn = syntax.draw(teacher[:1].expand(20_000, 7))
    torch.testing.assert_close(drawn[:, :3].mean(0), probabilities[0], atol=0.02, rtol=0)
    assert (drawn[drawn[:, 3] == 1, 5] == 0).all(), "no number on an atom"
    assert drawn[drawn[:, 4] == 1, 5].mean() == pytest.approx(float(teacher[0, 5]), abs=0.1)


def test_noise_keeps_its_spread(tmp_path):
    """A pointwise loss would collapse to the mean; matching in distribution does not."""

    class TwoClusters(torch.nn.Module):
        def encode(self, x, s, y):
            return x, torch.full_like(x, -6.0)

    x = torch.randn(500, 2) * 0.1 + torch.where(torch.arange(500) % 2 == 0, 2.0, -2.0)[:, None]
    data = Data(x, torch.zeros(500).long(), torch.zeros(500).long())
    with Run.create("fair_tables", {"seed": 0}, out=tmp_path / "r", quiet=True) as opened:
        sampler = NoiseSampler(2, 32)
        train_noise_sampler(sampler, TwoClusters(), data, Plan(200, 256, 5e-3), opened, "noise")
    with torch.no_grad():
        drawn = sampler.sample(1000)
    assert drawn.std(0).min() > 1.8
    assert ((drawn.abs() > 1).float().mean()) > 0.85


def test_the_student_learns_rows_as_they_are_generated(tmp_path):
    """Every row here has the group that its latent tells; generation pairs latents with the other group as well."""
    syntax = TableSyntax((CATEGORY, MONEY))

    class Bent(torch.nn.Module):
        """z is the row's number; the groups like opposite categories the more, the further z is from 0."""

        def encode(self, x, s, y):
            return x[:, 5:], torch.full_like(x[:, 5:], -4.0)

        def decode(self, z, s):
            side = (1 - 2 * s[:, None]) * z.abs()
            zero, closed = torch.zeros_like(z), torch.full_like(z, -3.0)
            return torch.cat([3 * side, zero, -3 * side, closed, zero, z, closed], 1), torch.cat([z, -z], 1)

    torch.manual_seed(0)
    teacher, student = Bent(), FairVAE(syntax, 2, 2, 1, 24, "x, s")
    z = torch.randn(2000, 1)
    s = (z[:, 0] > 0).long()
    output, logits = teacher.decode(z, s)
    x = syntax.draw(output)
    x[:, 3], x[:, 4], x[:, 5:] = 0, 1, z
    data, loss = Data(x, s, logits.argmax(1)), StudentLoss(1.0, 1.0, Penalty(0.0, "relative", (0.5,), 2000))
    with Run.create("fair_tables", {"seed": 0}, out=tmp_path / "r", quiet=True) as opened:
        distil_student(student, teacher, syntax, data, loss, Plan(300, 256, 5e-3), opened, "student")
    with torch.no_grad():
        gaps = [syntax.divergence(teacher.decode(z, g)[0], student.decode(z, g)[0]).mean() for g in (s, 1 - s)]
    assert max(gaps) < 1, gaps


def test_flow_without_velocity_is_noise():
    flow = FlowSampler(3, 8)
    for parameter in flow.parameters():
        torch.nn.init.zeros_(parameter)
    flow.frame.learn(torch.tensor([[1.0, 2, 3], [3, 4, 5]]))
    with torch.no_grad():
        drawn = flow.sample(20_000)
    torch.testing.assert_close(drawn.mean(0), torch.tensor([2.0, 3, 4]), atol=0.05, rtol=0)


# ---- what holds by construction


def test_the_penalty_makes_latents_fair(tmp_path):
    options = {"data": "loans", "most_rows": 1500, "teacher_updates": 150, "batch": 256, "teacher_width": 64}
    dependence = []
    for weight in (0.0, 100.0):
        config = dataclasses.replace(
            fair_tables.PRESETS["laptop"], fairness_weight=weight, sampler_updates=1, **options
        )
        with Run.create("fair_tables", {"seed": 0}, out=tmp_path / str(weight), quiet=True) as opened:
            task = pipeline.open_task(config)
            teacher, _ = pipeline.teach(config, task, opened)
        with torch.no_grad():
            mu, logvar = teacher.encode(task.report.x, task.report.s, task.report.y)
            dependence.append(float(losses.relative_dependence(mu, logvar, task.report.s, (0.5,))))
    assert dependence[1] < 0.5 * dependence[0], dependence


@pytest.mark.parametrize(("sees", "reads"), [("x", (0, 0)), ("x, s", (1, 0)), ("x, s, y", (1, 1))])
def test_what_the_encoder_reads(table, sees, reads):
    torch.manual_seed(0)
    vae, x = FairVAE(table.syntax, 2, 2, 3, 8, sees), torch.randn(4, table.syntax.width)
    zero, one = torch.zeros(4, dtype=torch.long), torch.ones(4, dtype=torch.long)
    mu, other_group, other_label = (vae.encode(x, s, y)[0] for s, y in ((zero, zero), (one, zero), (zero, one)))
    assert (not mu.equal(other_group), not mu.equal(other_label)) == reads


def test_the_label_is_decoded_from_z_alone(table):
    vae, z = table.student.vae, torch.randn(5, table.student.vae.latent)
    one, other = (vae.decode(z, torch.full((5,), s)) for s in (0, 1))
    assert torch.equal(one[1], other[1])
    assert not torch.equal(one[0], other[0])


def test_label_and_group_are_independent_in_the_synthetic_table(table):
    rows = table.generate(8000)
    assert (
        association((rows.granted == "yes").astype(int).to_numpy(), (rows.gender == "man").astype(int).to_numpy())
        < 0.04
    )


def test_the_input_form_is_kept(table):
    source = fair_tables.pipeline.open_source("loans").table
    rows = table.generate(500)
    assert list(rows.columns) == list(source.columns)
    assert (rows.dtypes == source.dtypes).all()
    assert set(rows.sector) <= set(source.sector)
    assert rows.income.between(source.income.min(), source.income.max()).all()


def test_same_seed_same_rows_and_any_length(table):
    pd.testing.assert_frame_equal(table.generate(50, seed=3), table.generate(20_500, seed=3).head(50))
    assert not table.generate(50, seed=3).equals(table.generate(50, seed=4))
    assert len(table.generate(20_500)) == 20_500


def test_conditions(table):
    rows = table.generate(300, where={"gender": "woman", "granted": "yes"})
    assert len(rows) == 300
    assert set(rows.gender) == {"woman"}
    assert set(rows.granted) == {"yes"}
    for where, message in (
        ({"gendre": "woman"}, "no column 'gendre'"),
        ({"gender": "other"}, "no value 'other'"),
        ({"income": 3}, "'income' is continuous"),
    ):
        with pytest.raises(UserError, match=message):
            table.generate(5, where=where)
    with pytest.raises(UserError, match="0 rows asked for"):
        table.generate(0)


def test_marginals_only_breaks_every_link():
    x = torch.eye(2)[torch.arange(1000) % 2]
    data = Data(torch.cat([x, x], 1), torch.arange(1000) % 2, torch.arange(1000) % 2)
    blocks = tuple(Block(Column(n, "categorical", "str", ("a", "b")), i, 2, False) for n, i in (("p", 0), ("q", 2)))
    torch.manual_seed(0)
    drawn = sample_marginals(data, blocks, 4000)
    assert abs(drawn.x[:, 0].mean() - 0.5) < 0.05
    assert association(drawn.x[:, 0].int().numpy(), drawn.x[:, 2].int().numpy()) < 0.05
    assert association(drawn.s.numpy(), drawn.y.numpy()) < 0.05


def test_tabfairgan_rows_and_its_parity_term():
    gan = TabFairGAN((CATEGORY, MONEY), 2, 2, 8)
    drawn = gan.sample(50)
    assert drawn.x.shape == (50, 6)
    assert (drawn.x[:, :3].sum(1) == 1).all()
    assert (drawn.x[drawn.x[:, 3] == 1, 5] == 0).all()
    s, chosen = torch.eye(2).repeat(2, 1), torch.tensor([1.0, 0.0, 1.0, 0.0])
    assert parity_gap(s, chosen) == pytest.approx(0.5 + 0.5)
    assert parity_gap(s, torch.ones(4)) == 0


# ---- the run, the commands, bad input


def test_every_arm_is_measured(run):
    names = [arm.name for arm in run.result.arms]
    for name in (
        "real rows",
        "copy of the training rows",
        "constant classifier",
        "marginals only",
        "VAE without fairness",
        "FLDGM GAN",
        "FLDGM diffusion",
        "TabFairGAN-style",
    ):
        assert name in names
    arms = {arm.name: arm for arm in run.result.arms}
    assert arms["copy of the training rows"].metrics["authenticity"] == 0
    assert arms["constant classifier"].metrics["fair_utility"] == 0
    assert arms["student"].cost.parameters <= arms["teacher"].cost.parameters / 4
    assert (run.model_folder / "DATASHEET.md").read_text().count("do not use it for") == 1
    assert {t.title for t in run.result.tables} >= {
        "Positive share by group, before and after",
        "Who is close to a real record",
    }
    assert len(run.result.pictures) == 3


def test_generate_command(run, tmp_path, capsys):
    out = tmp_path / "fair.csv"
    cli.dispatch(
        ["fair_tables", "generate", str(run.folder), "--rows", "120", "--out", str(out), "--where", "gender=man"]
    )
    assert set(read_table(out).gender) == {"man"}
    assert "120 rows" in capsys.readouterr().out
    for extra, message in ((["--where", "gender"], "not a condition"), (["--out", "x.txt"], "neither .csv")):
        with pytest.raises(UserError, match=message):
            cli.dispatch(["fair_tables", "generate", str(run.folder), "--rows", "5", "--out", str(out), *extra])


def test_own_file_with_a_date_and_an_id(tmp_path):
    source = fair_tables.pipeline.open_source("loans").table.head(300)
    path = tmp_path / "mine.csv"
    source.assign(id=range(len(source)), day="2020-01-01").to_csv(path, index=False)
    options = {**TINY, "data": str(path), "label": "granted", "sensitive": ("gender", "education"), "most_rows": 0}
    with pytest.raises(UserError, match=r"id \(identifier.*day \(dates\); leave them out with --drop id day"):
        stillhouse.run("fair_tables", out=tmp_path / "a", quiet=True, **options)
    run = stillhouse.run("fair_tables", out=tmp_path / "b", quiet=True, drop=("id", "day"), **options)
    table = stillhouse.load(run.folder)
    assert isinstance(table, FairTable)
    assert list(table.generate(10).columns) == list(source.columns)
    assert len(table.codec.groups) == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latent": 0}, "--latent is 0; use 2 or more"),
        ({"fairness_weight": -1.0}, "--fairness-weight is -1; use 0 or more"),
        ({"rate": float("nan")}, "--rate is nan"),
        ({"smoothing": ()}, "--smoothing"),
    ],
)
def test_numbers_out_of_range_are_one_line(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        stillhouse.run("fair_tables", out=tmp_path / "a", quiet=True, **{**TINY, **options})


def test_a_file_needs_label_and_sensitive_columns(tmp_path):
    path = tmp_path / "mine.parquet"
    fair_tables.pipeline.open_source("loans").table.to_parquet(path)
    with pytest.raises(UserError, match="--label"):
        stillhouse.run("fair_tables", out=tmp_path / "a", quiet=True, data=str(path))


def test_damaged_model(run, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.json").write_bytes((run.model_folder / "model.json").read_bytes())
    (folder / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(UserError, match="no student that can be loaded"):
        fair_tables.load(folder)


def test_colour_mnist_takes_the_same_path(tmp_path):
    options = {**TINY, "data": "colour-mnist", "most_rows": 400, "teacher_width": 32, "student_width": 16}
    run = stillhouse.run("fair_tables", out=tmp_path / "run", quiet=True, **options)
    images = stillhouse.load(run.folder)
    assert isinstance(images, FairImages)
    made = images.generate(20)
    assert made.x.shape == (20, 2 * 14 * 14)
    assert made.x.min() >= 0
    assert made.x.max() <= 1
    with pytest.raises(UserError, match="makes images"):
        fair_tables.generate(run.folder, tmp_path / "t.csv", rows=5)


def test_colour_is_bias_in_training_and_none_in_the_report():
    task = pipeline.colour_mnist_task(0, 0)
    large = [(part.y >= 5).int().numpy() for part in (task.train, task.report)]
    assert association(large[0], task.train.s.numpy()) > 0.5
    assert association(large[1], task.report.s.numpy()) < 0.08
    red = task.train.x.view(-1, 2, 196)[task.train.s == 1]
    assert red[:, 0].sum() > 0
    assert red[:, 1].sum() == 0
    assert np.isclose(task.train.x.max(), 1, atol=0.05)

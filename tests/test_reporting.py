"""Pages made from results: complete, self-contained, escaped, readable; and what they say about numbers."""

import dataclasses
import html
import json
import math
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import cattrs
import numpy as np
import pytest
from huggingface_hub import ModelCard
from PIL import Image

from made_up_runs import made_up_result, made_up_run, unfinished_run
from stillhouse import cli, launch
from stillhouse.core.errors import UserError
from stillhouse.core.evidence import Claim, Evidence
from stillhouse.core.files import write_json
from stillhouse.core.result import Arm, Cost, Curve, Metric, Picture, Result
from stillhouse.reporting import numbers
from stillhouse.reporting.arms import arms_table, mark_arms, pareto_front, speed_words
from stillhouse.reporting.claims import NONE_YET, claims_markdown, paper_claims_markdown, print_claims, update_file
from stillhouse.reporting.comparison import differing_options, name_runs, write_comparison
from stillhouse.reporting.finished import read_finished
from stillhouse.reporting.model_card import write_model_card
from stillhouse.reporting.plots import spread_apart
from stillhouse.reporting.report import write_report

VOID = {"meta", "link", "img", "br", "path", "use"}
FID = Metric("fid", "FID", "lower", floor=1.0)


class Page(HTMLParser):
    """A strict reader: complains about tags that are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.feed(text)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag, f"</{tag}> closes something else"

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attrs for name, attrs in self.tags if name == tag]

    def attributes(self, name: str) -> list[str]:
        return [attrs[name] for _, attrs in self.tags if name in attrs]


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> str:
    run = made_up_run(tmp_path_factory.mktemp("runs") / "dmd2-a")
    return write_report(run, "DMD2").read_text(encoding="utf-8")


def check_page(text: str) -> Page:
    """What every page owes its reader."""
    page = Page(text)
    assert not page.all("script")
    for target in page.attributes("src") + page.attributes("href"):
        assert target.startswith(("data:", "#")), target
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", text))
    assert "@import" not in text
    ids = page.attributes("id")
    assert len(ids) == len(set(ids)), "an id is used twice"
    for reference in page.attributes("href") + [f"#{value}" for value in page.attributes("aria-labelledby")]:
        assert reference.startswith("data:") or reference[1:] in ids, reference
    assert all(image["alt"] for image in page.all("img"))
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in page.all("svg"))
    assert all(heading["scope"] for heading in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    assert len(page.all("h1")) == 1
    assert len(text.encode()) < 3_000_000
    return page


def test_report_is_whole_and_self_contained(report):
    page = check_page(report)
    result = made_up_result()
    words = html.unescape(report)
    for told in (result.summary, *result.notes, *(arm.name for arm in result.arms), result.tables[0].title):
        assert told in words
    assert len(page.all("img")) == 2
    assert len(page.all("svg")) == 5 + 2 * 3, "a panel a cost that differs, and one a metric with curves and axis"
    assert "student_updates" in words and "800" in words and "torch" in words


def test_report_escapes_what_results_hold(report):
    assert "<b>Peer</b>" not in report and "&lt;b&gt;Peer&lt;/b&gt; library" in report
    assert "<none>" not in report and "Without GAN &amp; λ&lt;1" in report


def test_report_says_nan_and_missing(report):
    assert "NaN" in report
    assert '<span class="unseen">not stated</span>' in report


def test_plots_tell_their_content_in_words(report):
    labels = [html.unescape(svg["aria-label"]) for svg in Page(report).all("svg")]
    passes = next(label for label in labels if "network passes per item" in label)
    assert "Teacher, Heun 18 steps: 2.31 at 35" in passes and "DMD2, four steps: 1.94 at 4" in passes
    curve = next(label for label in labels if "over student updates" in label and label.startswith("Recall"))
    assert "higher is better" in curve and "Teacher: 0.762" in curve


def test_plots_take_their_colours_from_the_page(report):
    plots = "".join(re.findall(r"<svg.*?</svg>", report, re.DOTALL))
    assert "var(--series-0)" in plots and "var(--ink)" in plots
    assert not re.findall(r"(?:fill|stroke): #\w+", plots)


def test_best_arm_is_neither_teacher_nor_floor_nor_missing():
    table = arms_table(mark_arms(made_up_result().arms), made_up_result().metrics)
    best = {
        column.title: [mark.label for mark, cell in zip(table.marks, column.cells, strict=True) if cell.best]
        for column in table.quality
    }
    four = ["DMD2, four steps"]
    assert best == {"FID": four, "KID": four, "Recall": four, "Class accuracy": ["DMD2, one step"]}
    assert [mark.arm.role for mark in table.marks] == ["teacher", *["student"] * 3, "baseline", "peer", "floor"]
    assert [column.floor for column in table.quality] == ["1.12", "0.040", "–", "98.2"]


def test_speed_is_told_against_the_teacher():
    table = arms_table(mark_arms(made_up_result().arms), ())
    (column,) = [column for column in table.costs if column.title == "Time per item, batch 1"]
    assert [cell.note for cell in column.cells] == ["", "33× faster", "8.6× faster", "33× faster", "11× faster", "", ""]
    assert speed_words(2.0, 1.0) == "2.0× slower" and speed_words(1.0, 1.02) == "as fast" and speed_words(0.0, 1) == ""


def test_seeds_of_one_arm_are_told_apart():
    arms = [Arm("A", "student", {"fid": 1.0}, seed=0), Arm("A", "student", {"fid": 2.0}, seed=1)]
    assert [mark.label for mark in mark_arms(arms)] == ["A (seed 0)", "A (seed 1)"]


@pytest.mark.parametrize(
    "result",
    [
        Result("bare", "", (FID,), (Arm("only", "student", {}),)),
        Result("no metrics", "done", (), (Arm("only", "baseline", {}),)),
        Result("no arms", "done", (FID,), ()),
        Result("no teacher", "x", (FID,), tuple(Arm(n, "student", {"fid": 2.0}, Cost(9)) for n in "ab")),
        Result(
            "curve of no arm, one point, no axis but one",
            "x",
            (FID,),
            (Arm("a", "student", {"fid": math.nan}),),
            {"n": "Updates", "lost": "Nowhere"},
            (Curve("someone", "fid", ({"n": 1, "value": 3.0}, {"n": 2, "value": math.nan}, {"value": 1.0})),),
        ),
        Result(
            "zero and negative",
            "x",
            (Metric("gain", "Gain $x_1$", "higher", floor=0.0),),
            tuple(
                Arm(f"a{v}", "student", {"gain": v}, Cost(network_passes=i)) for i, v in enumerate((-5.0, 0.0, 400.0))
            ),
        ),
    ],
    ids=lambda result: result.method,
)
def test_any_result_makes_a_report(result, tmp_path):
    check_page(write_report(made_up_run(tmp_path / "run", result)).read_text(encoding="utf-8"))


def test_crowded_plots_number_only_the_best(tmp_path):
    arms = tuple(Arm(f"sub {i}", "student", {"fid": 90.0 - i + i * 7 % 9}, Cost(1000 + i * 100)) for i in range(40))
    curves = tuple(
        Curve(arm.name, "fid", tuple({"n": n, "value": arm.metrics["fid"] / n} for n in (1, 2))) for arm in arms
    )
    result = Result("many", "", (FID,), arms, {"n": "Updates"}, curves)
    text = write_report(made_up_run(tmp_path / "run", result)).read_text(encoding="utf-8")
    scatter, lines = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    numbers_in = [len(re.findall(r"font[^>]*(?:bold|700)[^>]*>", plot)) for plot in (scatter, lines)]
    assert 1 < numbers_in[0] <= 16 and numbers_in[1] == 16
    check_page(text)
    assert "only its best arms are numbered" in text


def test_numbers_of_a_column_are_spread_in_their_order():
    assert spread_apart([(0, 10.0), (0, 10.0), (100, 10.0), (0, 50.0)]) == [4.0, 16.0, 10.0, 50.0]
    assert spread_apart([(0, 31.0), (5, 30.0), (3, 32.0)]) == [31.0, 19.0, 43.0]
    assert spread_apart([]) == []


def test_pictures_that_weigh_too_much_are_made_lighter(tmp_path):
    result = made_up_result()
    run = made_up_run(tmp_path / "run", result)
    for picture in result.pictures:
        noise = np.random.default_rng(0).integers(0, 255, (900, 900, 3), dtype=np.uint8)
        Image.fromarray(noise).save(run.folder / picture.path)
    assert sum((run.folder / picture.path).stat().st_size for picture in result.pictures) > 4_000_000
    page = check_page(write_report(run).read_text(encoding="utf-8"))
    assert all(image["src"].startswith("data:image/webp") for image in page.all("img"))


def test_pictures_that_cannot_be_shown_say_why(tmp_path):
    (tmp_path / "secret.png").write_bytes(b"secret")
    names = ("pictures/lost.png", "../secret.png", "pictures/damaged.png")
    pictures = tuple(Picture(name, name, "alt") for name in names)
    run = made_up_run(tmp_path / "run", dataclasses.replace(made_up_result(), pictures=pictures))
    (run.folder / "pictures/lost.png").unlink()
    (run.folder / "pictures/damaged.png").write_bytes(b"\x89PNG no picture")
    text = write_report(run).read_text(encoding="utf-8")
    assert not check_page(text).all("img")
    for trouble in ("lost.png is missing", "secret.png lies outside", "damaged.png cannot be read"):
        assert trouble in text


def test_report_of_an_unfinished_run_is_refused(tmp_path):
    run = unfinished_run(tmp_path / "run")
    with pytest.raises(UserError, match="stillhouse resume"):
        write_report(run)


def test_a_run_ends_with_report_and_card(tmp_path):
    module = SimpleNamespace(distill=lambda config, run: made_up_result())
    run = unfinished_run(tmp_path / "run")
    launch._work(module, None, run)
    assert "<h1>DMD2</h1>" in (run.folder / "report.html").read_text(encoding="utf-8")
    assert "arXiv 2405.14867" in (run.model_folder / "README.md").read_text(encoding="utf-8")


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2) of "#rrggbb"."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_colours_contrast_with_the_page(report, scheme):
    block = re.findall(r":root \{(.*?)\}", report, re.DOTALL)[scheme]
    colours = dict(re.findall(r"--([\w-]+): (#\w{6})", block))
    paper = luminance(colours["paper"])
    for name in ("ink", "muted", "accent", *(f"series-{i}" for i in range(8))):
        low, high = sorted((paper, luminance(colours[name])))
        assert (high + 0.05) / (low + 0.05) >= 4.5, name


def in_browser(page: str, width: int, measure: str, folder: Path) -> str:
    """What the JavaScript expression `measure` says about `page` (as d) in a frame of this width."""
    frame = f'<iframe style="border:0;width:{width}px;height:3000px" srcdoc="{html.escape(page)}"></iframe>'
    script = (
        "<script>onload=()=>{const d=document.querySelector('iframe').contentDocument;"
        f"document.body.innerHTML='<p id=said>'+({measure})+'</p>'}}</script>"
    )
    (folder / "frame.html").write_text(f"<!doctype html><meta charset=utf-8>{script}{frame}", encoding="utf-8")
    told = subprocess.run(
        [
            *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            *(f"--user-data-dir={folder / 'profile'}", "--dump-dom", (folder / "frame.html").as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return re.search(r'<p id="said">(.*?)</p>', told.stdout).group(1)


@pytest.mark.skipif(not shutil.which("chromium"), reason="chromium is not installed")
@pytest.mark.parametrize("width", [390, 1280])
def test_only_tables_scroll_sideways(report, width, tmp_path):
    said = in_browser(report, width, "d.documentElement.scrollWidth", tmp_path)
    assert int(said) <= width


# --- comparison -------------------------------------------------------------------------------------------------


def test_pareto_front_by_hand():
    points = [(1, 5.0), (2, 3.0), (2, 4.0), (3, 3.0), (4, 1.0), (4, 1.0)]
    assert pareto_front(points, "lower") == [True, True, False, False, True, True]
    assert pareto_front(points, "higher") == [True, False, False, False, False, False]
    assert pareto_front([], "lower") == []


def scaled(result: Result, factor: float) -> Result:
    """`result` with students of another FID."""
    arms = tuple(
        dataclasses.replace(arm, metrics={**arm.metrics, "fid": arm.metrics["fid"] * factor})
        if arm.role == "student"
        else arm
        for arm in result.arms
    )
    return dataclasses.replace(result, arms=arms)


def test_comparison_of_two_methods(tmp_path):
    one = made_up_run(tmp_path / "one").folder
    other = dataclasses.replace(scaled(made_up_result(), 0.5), method="disback", metrics=made_up_result().metrics[:2])
    two = made_up_run(tmp_path / "two", other, student_updates=1200, nodes=4).folder
    text = write_comparison([one, two], tmp_path / "comparison.html").read_text(encoding="utf-8")
    check_page(text)
    words = html.unescape(text)
    assert words.count('<span class="label">DMD2, one step</span>') == 2
    assert words.count('<span class="label">Teacher, Heun 18 steps</span>') == 1, "a shared teacher is one row"
    assert "Class accuracy" not in words, "a metric that only one run has"
    fronts = [re.findall(r">(\d+)<", front) for front in re.findall(r"On the front: (.*?)</figcaption>", text)]
    assert fronts[0] == ["5", "6"], "the second run's students of one pass and of four, over passes"
    options = text[text.index('id="options"') :]
    assert "student_updates" in options and "nodes" in options and "lora_rank" not in options
    assert len(Page(text).all("svg")) == 5 + 3


def test_options_that_differ(tmp_path):
    runs = [made_up_run(tmp_path / name, seed=seed).folder for name, seed in (("a", 0), ("b", 1))]
    assert differing_options(name_runs([read_finished(folder) for folder in runs])) == {"seed": ["0", "1"]}


def test_comparison_warns_of_different_data(tmp_path):
    folders = [made_up_run(tmp_path / data, data=data).folder for data in ("digits", "mnist-5k")]
    text = write_comparison(folders, tmp_path / "c.html").read_text(encoding="utf-8")
    assert "different data (digits, mnist-5k)" in text and "different machines" not in text


def test_comparison_errors(tmp_path):
    good = made_up_run(tmp_path / "good").folder
    unfinished = unfinished_run(tmp_path / "unfinished").folder
    other_metric = Result("x", "", (Metric("em", "Exact match", "higher"),), (Arm("s", "student", {"em": 1.0}),))
    other = made_up_run(tmp_path / "other", other_metric).folder
    turned = dataclasses.replace(made_up_result(), metrics=(Metric("fid", "FID", "higher"),))
    upside_down = made_up_run(tmp_path / "turned", turned).folder
    no_student = made_up_run(tmp_path / "none", Result("x", "", (FID,), (Arm("t", "teacher", {"fid": 1.0}),))).folder
    for folders, message in (
        ([good], "two different runs"),
        ([good, tmp_path / "x" / ".." / "good"], "two different runs"),
        ([good, unfinished], "has not finished"),
        ([good, tmp_path], "not a run folder"),
        ([good, other], "share no metric"),
        ([good, upside_down], "do not agree"),
        ([good, no_student], "no student"),
    ):
        with pytest.raises(UserError, match=message):
            write_comparison(folders, tmp_path / "out.html")
    assert not (tmp_path / "out.html").exists()


# --- claims -----------------------------------------------------------------------------------------------------


def made_up_claims(folder: Path) -> Path:
    """A results folder with a claim that holds and one that does not."""
    held = Claim(
        "one-step",
        "FID of one pass | teacher's <b>35</b>",
        0.55,
        0.97,
        (0.93, 1.02),
        "<= 1.0",
        5,
        "held",
        "digits",
        "python benchmarks/dmd2.py --claim one-step",
    )
    lost = dataclasses.replace(held, id="fast", statement="[b]Faster[/b]", paper=None, measured=math.nan, seeds=1)
    claims = (held, dataclasses.replace(lost, verdict="not held", note="One machine."))
    evidence = Evidence("dmd2", "abc123", {}, 41.4, claims, ())
    write_json(folder / "dmd2.json", cattrs.unstructure(evidence))
    write_json(folder / "empty.json", cattrs.unstructure(Evidence("empty", None, {}, 0.0, (), ())))
    return folder


def test_claims_off_a_terminal_are_plain_lines(tmp_path, capsys):
    print_claims(made_up_claims(tmp_path / "results"), as_json=False)
    one, two = capsys.readouterr().out.splitlines()
    assert one == (
        "dmd2: held: FID of one pass | teacher's <b>35</b>: measured 0.97 [0.93, 1.02], "
        "threshold <= 1.0, paper 0.55, 5 seeds, digits"
    )
    assert "[b]Faster[/b]: measured NaN" in two and "paper none, 1 seed," in two


def test_claims_on_a_terminal_are_a_table(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "140")
    print_claims(made_up_claims(tmp_path / "results"), as_json=False)
    text = capsys.readouterr().out
    assert "Verdict" in text and "[b]Faster[/b]" in text and "\x1b[" in text


def test_claims_as_json(tmp_path, capsys):
    print_claims(made_up_claims(tmp_path / "results"), as_json=True)
    one, two = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert one["interval"] == [0.93, 1.02] and one["minutes"] == 41.4 and one["method"] == "dmd2"
    assert two["measured"] is None and two["verdict"] == "not held"


def test_claims_markdown_has_equal_columns_and_no_html(tmp_path):
    text = claims_markdown(made_up_claims(tmp_path / "results"))
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 4 and {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {8}
    assert "<b>" not in text and "**not held**" in text and "`<= 1.0`" in text
    assert "`python benchmarks/dmd2.py --claim one-step`" in text and "empty" not in text


BEGIN, END = "<!-- claims -->", "<!-- /claims -->"


def test_readme_is_updated_once(tmp_path, capsys):
    results, readme = made_up_claims(tmp_path / "results"), tmp_path / "README.md"
    readme.write_text(f"before\n\n{BEGIN}\nold\n{END}\n\nafter\n", encoding="utf-8")
    cli.dispatch(["claims", "--results", str(results), "--readme", str(readme)])
    text = readme.read_text(encoding="utf-8")
    assert text == f"before\n\n{BEGIN}\n{claims_markdown(results)}\n{END}\n\nafter\n"
    cli.dispatch(["claims", "--results", str(results), "--readme", str(readme)])
    assert readme.read_text(encoding="utf-8") == text
    assert capsys.readouterr().out.splitlines() == [f"{readme}: updated", f"{readme}: up to date"]


@pytest.mark.parametrize("text", ["no markers", BEGIN, f"{END}{BEGIN}"])
def test_readme_without_its_markers_is_refused(text, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(text)
    with pytest.raises(UserError, match="markers"):
        update_file(readme, made_up_claims(tmp_path / "results"))
    assert readme.read_text() == text


def test_the_readme_has_the_tally_and_the_claims_with_a_figure_of_the_paper(tmp_path):
    results, readme = made_up_claims(tmp_path / "results"), tmp_path / "README.md"
    readme.write_text("<!-- paper claims -->\n<!-- /paper claims -->\n")
    assert update_file(readme, results)
    text = readme.read_text()
    assert text == f"<!-- paper claims -->\n{paper_claims_markdown(results)}\n<!-- /paper claims -->\n"
    assert "**dmd2**: 1 held, 1 not held" in text and "FID of one pass" in text and "Faster" not in text


def test_no_claims_yet(tmp_path, capsys):
    print_claims(tmp_path, as_json=False)
    assert capsys.readouterr().out.strip() == claims_markdown(tmp_path) == NONE_YET
    with pytest.raises(UserError, match="no folder"):
        print_claims(tmp_path / "nowhere", as_json=False)
    with pytest.raises(UserError, match="cannot read"):
        update_file(tmp_path / "README.md", tmp_path)


# --- model card -------------------------------------------------------------------------------------------------


def test_model_card(tmp_path):
    run = made_up_run(tmp_path / "run", data="/home/somebody/photos", teacher=None)
    text = write_model_card(run, "A paper (arXiv 1)").read_text(encoding="utf-8")
    card = ModelCard(text)
    assert card.data.tags == ["distillation", "dmd2"] and card.data.library_name == "stillhouse"
    assert next((r.metric_type, r.metric_value) for r in card.data.eval_results) == ("fid", 2.28)
    assert "somebody" not in text and "- Data: photos" in text
    assert "published in: A paper (arXiv 1)" in text and "Class accuracy ↑, %" in text
    assert made_up_result().summary in text and made_up_result().notes[0] in text
    assert "<b>Peer" not in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 7 + 1 and len({row.count("|") for row in rows}) == 1


def test_model_card_of_a_bare_result(tmp_path):
    result = Result("bare", "Done.", (FID,), (Arm("s", "student", {"fid": math.nan}),))
    card = ModelCard(write_model_card(made_up_run(tmp_path / "run", result)).read_text(encoding="utf-8"))
    assert card.data.eval_results is None and "Citation" not in card.text and "None were noted" in card.text


# --- numbers ----------------------------------------------------------------------------------------------------


def test_numbers_as_readers_want_them():
    told = [numbers.significant(value) for value in (0, 1234.5, 0.00123, 12.0, -0.5, 1e-9, math.nan, math.inf, None)]
    assert told == ["0", "1,230", "0.00123", "12", "-0.5", "1.00e-09", "NaN", "∞", "–"]
    assert [numbers.compact(value) for value in (900, 1500, 2e6)] == ["900", "1.5k", "2M"]
    assert numbers.in_unit(0.0127, numbers.SECONDS) == "12.7 ms" and numbers.in_unit(2e6, numbers.BYTES) == "2 MB"
    assert numbers.column_decimals([2.31, 48.6, None, math.nan]) == 2 and numbers.column_decimals([1, 35]) == 0
    assert numbers.fixed(1234.5, 2) == "1,234.50" and numbers.fixed(0.0004, 2) == "4.0e-04"


def test_listing_methods_loads_no_heavy_package():
    code = (
        "import sys; from stillhouse.cli import dispatch; dispatch(['list']); "
        "print([name for name in ('matplotlib', 'torch', 'jinja2', 'huggingface_hub') if name in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.splitlines()[-1] == "[]"

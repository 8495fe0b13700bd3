"""`stillhouse serve`: the list, live runs, broken runs, trials, tokens; and every page in a real browser."""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from browser import axe_core, open_browser
from made_up_runs import made_up_result, made_up_run, unfinished_run
from stillhouse.core.errors import UserError
from stillhouse.core.files import write_json
from stillhouse.core.result import Arm, Curve, Metric, Result, Table
from stillhouse.core.run import Run
from stillhouse.core.trial import Choice, Gauge, Number, Page, Ready, Shown, Text, Trial, Words, within_bounds
from stillhouse.reporting.comparison import compare_any, group_curves, name_runs, seed_groups
from stillhouse.reporting.finished import read_finished
from stillhouse.reporting.shelf import Shelf, print_runs, progress_of
from stillhouse.serving import trying
from stillhouse.serving.guard import Guard
from stillhouse.serving.listing import ON_A_PAGE, Asked, list_html
from stillhouse.serving.pages import comparison_html, report_html, run_html
from stillhouse.serving.trying import DONE, Bench, output_html


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of every state: finished ones of three seeds, stopped, at work, damaged in three ways, and what is no run."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in range(3):
        made_up_run(folder / f"dmd2-{seed}", with_seed(seed), seed=seed)
    (folder / "dmd2-0" / "report.html").write_text("<h1>Report</h1>")
    unfinished_run(folder / "stopped")
    for name, text in (("no-json", "{"), ("no-config", '{"method": 3, "config": []}')):
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(text)
    made_up_run(folder / "half <b>result")
    (folder / "half <b>result" / "result.json").write_text('{"method": "dmd2", "arms": [')
    (folder / "notes").mkdir()
    (folder / "file.txt").write_text("no run")
    return folder


def with_seed(seed):
    result = made_up_result()
    curves = tuple(replace(c, points=tuple({**p, "value": p["value"] + seed} for p in c.points)) for c in result.curves)
    return replace(result, curves=curves)


@pytest.fixture(scope="module")
def at_work(runs):
    """A run whose process holds its lock and has written some metrics."""
    run = Run.create("dmd2", {"data": "digits", "seed": 5}, out=runs / "at-work", quiet=True)
    run.plan("teacher", 100)
    run.plan("student", 40)
    for update in range(1, 11):
        run.record(stage="teacher", update=10 * update, seconds=0.5 * update, loss=1.0 / update)
    for update in range(1, 11):
        run.record(stage="student", update=update, seconds=2.0 * update, fake_score=2.0 / update, gan=0.1)
    run.record(stage="student", update=10, seconds=20.0, evaluation={"fid": 3.5})
    with run.metrics_file.open("a") as file:
        file.write('{"stage": "stu')
    yield run
    run.close()


# --- the shelf --------------------------------------------------------------------------------------------------


def states(shelf):
    return {entry.name: shelf.looked_into(entry).state for entry in shelf.entries()}


def test_every_state_is_told(runs, at_work):
    assert states(Shelf(runs)) == {
        **{f"dmd2-{seed}": "finished" for seed in range(3)},
        "stopped": "stopped",
        "at-work": "running",
        "no-json": "broken",
        "no-config": "broken",
        "half <b>result": "broken",
    }
    assert next(entry.name for entry in Shelf(runs).entries()) == "at-work", "runs at work come first"


def test_a_shelf_sees_what_changes(tmp_path):
    run = unfinished_run(tmp_path / "a")
    shelf = Shelf(tmp_path)
    assert states(shelf) == {"a": "stopped"}
    with Run.open(run.folder, quiet=True):
        assert states(shelf) == {"a": "running"}
    write_json(run.result_file, {"summary": "s", "metrics": [], "arms": []})
    assert states(shelf) == {"a": "finished"}
    run.result_file.write_text("[")
    os.utime(run.result_file, (1, 1))
    assert states(shelf) == {"a": "broken"}


def test_looking_at_a_run_does_not_keep_it_from_starting(tmp_path):
    folder = unfinished_run(tmp_path / "a").folder
    for _ in range(20):
        Shelf(tmp_path).entries()
        Run.open(folder, quiet=True).close()


def test_one_run_is_a_shelf_too_and_no_folder_is_an_error(runs):
    assert [entry.name for entry in Shelf(runs / "dmd2-1").entries()] == ["dmd2-1"]
    with pytest.raises(UserError, match="no folder"):
        Shelf(runs / "nowhere")
    with pytest.raises(UserError, match="no run"):
        Shelf(runs).find("../runs")


def test_progress_is_of_the_stage_at_work(at_work):
    progress = progress_of(at_work.folder)
    assert (progress.stage, progress.update, progress.updates) == ("student", 10, 40)
    assert progress.per_second == pytest.approx(0.5) and progress.seconds_left == pytest.approx(60.0)
    assert progress.losses == {"fake_score": 0.2, "gan": 0.1} and progress.evaluation == {"fid": 3.5}
    assert progress.curves["fake_score"][0] == (1.0, 2.0) and len(progress.curves["fake_score"]) == 10


def test_progress_of_a_run_in_parts_is_that_of_its_last_part(tmp_path):
    run = unfinished_run(tmp_path / "a")
    assert progress_of(run.folder) is None
    write_json(run.folder / "parts" / "1" / "config.json", {})
    (run.folder / "parts" / "1" / "metrics.jsonl").write_text('{"stage": "student", "update": 3, "loss": 1.5}\n')
    assert progress_of(run.folder).losses == {"loss": 1.5}


def test_runs_are_listed_on_the_terminal(runs, capsys):
    print_runs(runs, as_json=False)
    told = capsys.readouterr().out
    assert "dmd2-0" in told and "result.json cannot be read" in told
    print_runs(runs, as_json=True)
    listed = {run["name"]: run for run in json.loads(capsys.readouterr().out)}
    assert listed["dmd2-2"]["headline"]["value"] == 2.28 and listed["no-json"]["state"] == "broken"


# --- the list ---------------------------------------------------------------------------------------------------


def test_the_list_escapes_filters_and_pages(runs, tmp_path):
    shelf = Shelf(runs)
    text = list_html(shelf, Asked())
    assert "half &lt;b&gt;result" in text and "<b>result" not in text and "notes" not in text
    assert text.count('type="checkbox"') == 3, "only finished runs can be ticked"
    assert "dmd2-1" in list_html(shelf, Asked(text="DMD2-1")) and "dmd2-2" not in list_html(shelf, Asked(text="DMD2-1"))
    broken = list_html(shelf, Asked(state="broken"))
    assert "half &lt;b&gt;result" in broken and "dmd2-1" not in broken
    for i in range(ON_A_PAGE + 2):
        write_json(tmp_path / f"r{i:02}" / "config.json", {"method": "dmd2", "config": {}})
    text = list_html(Shelf(tmp_path), Asked(page=2, text="r"))
    assert text.count("<tr class=") == 2 and 'href="/?text=r"' in text


# --- comparison -------------------------------------------------------------------------------------------------


def test_runs_that_differ_by_their_seed_are_one_line_in_a_band(runs):
    named = name_runs([read_finished(runs / f"dmd2-{seed}") for seed in range(3)])
    assert [len(group) for group in seed_groups(named)] == [3]
    from stillhouse.reporting.comparison import comparison_marks

    pairs = group_curves(named, comparison_marks(named), "fid", "student_updates")
    mark, curve = pairs[0]
    assert "mean and range of 3 seeds" in mark.label and mark.run == "A, B, C"
    for point in curve.points:
        assert point["high"] - point["low"] == pytest.approx(2.0)
        assert point["value"] == pytest.approx((point["high"] + point["low"]) / 2)


def test_bands_meet_where_all_seeds_are_known(tmp_path):
    fid = Metric("fid", "FID", "lower")
    folders = []
    for seed, positions in enumerate(((0.0, 10.0, 20.0), (5.0, 15.0, 25.0))):
        curve = Curve("s", "fid", tuple({"seconds": x, "value": x + 100 * seed} for x in positions))
        result = Result(
            "x", "", (fid,), (Arm("s", "student", {"fid": 1.0}, seed=seed),), {"seconds": "Seconds"}, (curve,)
        )
        folders.append(made_up_run(tmp_path / str(seed), result, seed=seed).folder)
    named = name_runs([read_finished(folder) for folder in folders])
    from stillhouse.reporting.comparison import comparison_marks

    ((_, curve),) = group_curves(named, comparison_marks(named), "fid", "seconds")
    assert [point["seconds"] for point in curve.points] == [5.0, 10.0, 15.0, 20.0]
    assert [point["low"] for point in curve.points] == [5.0, 10.0, 15.0, 20.0]
    assert [point["high"] for point in curve.points] == [105.0, 110.0, 115.0, 120.0]


def test_any_selection_is_compared(runs, tmp_path):
    other = made_up_run(
        tmp_path / "other", Result("x", "", (Metric("em", "EM", "higher"),), (Arm("s", "student", {"em": 1.0}),))
    )
    text = compare_any([runs / "dmd2-0", other.folder, runs / "stopped"])
    assert "has not finished" in text and "share no metric" in text and "DMD2, one step" in text
    with pytest.raises(UserError, match="fewer than two"):
        compare_any([runs / "dmd2-0", runs / "no-json"])
    page = comparison_html(Shelf(runs), ["dmd2-0", "dmd2-1", "half <b>result"])
    assert "opacity: 0.18" in page and "cannot be read as JSON" in page
    assert "What the papers claim, and whether it held" in page and 'class="verdict not-held"' in page
    with pytest.raises(UserError, match="1 of the runs"):
        comparison_html(Shelf(runs), ["dmd2-0", "dmd2-0"])


def test_pages_of_broken_and_unfinished_runs(runs, at_work):
    shelf = Shelf(runs)
    assert "This run is broken: result.json cannot be read" in run_html(shelf.find("half <b>result"))
    assert "stillhouse resume" in run_html(shelf.find("stopped"))
    assert "DMD2, one step" in run_html(shelf.find("dmd2-0"))
    assert report_html(shelf, "dmd2-0") == "<h1>Report</h1>"
    with pytest.raises(UserError, match="no report"):
        report_html(shelf, "stopped")


# --- trials -----------------------------------------------------------------------------------------------------

INPUTS = {
    "n": Number("Rows", 1, 9, 3),
    "x": Number("Share", 0, 1, 0.5, whole=False),
    "text": Text("Text", "a", 5),
    "which": Choice("Which", ("a", "b"), "a"),
}
GOOD = {"n": 3.0, "x": "0.25", "text": " abc ", "which": "b"}


def test_inputs_come_in_their_types():
    assert within_bounds(INPUTS, GOOD) == {"n": 3, "x": 0.25, "text": "abc", "which": "b"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", 10),
        ("n", 0),
        ("n", 2.5),
        ("n", None),
        ("n", "many"),
        ("n", float("nan")),
        ("n", True),
        ("x", float("inf")),
        ("text", ""),
        ("text", "abcdef"),
        ("text", 3),
        ("which", "c"),
        ("which", None),
    ],
)
def test_inputs_out_of_bounds_are_refused(name, value):
    with pytest.raises(UserError):
        within_bounds(INPUTS, {**GOOD, name: value})


def answer(n, text, **rest):
    yield Shown("Square <1>", Image.new("L", (8, 8)), "a square", 0.012)
    yield Words("Said", f"<i>{text}</i> {n}", 2.0)
    yield Gauge("Bias", 0.4, 0.0, 1.0, "one is best", 0.2, "before")
    yield Table("Rows", ("a", "b"), (("x", 1.5),))
    yield Page("Own", "<script>parent.document.title = 'taken'</script><p>inside</p>")
    if n == 9:
        raise RuntimeError("the network broke")


class Offering:
    """A method's module with a trial; `opened` counts how often its model was loaded."""

    def __init__(self):
        self.opened = 0
        self.TRIALS = {"t": Trial("A trial", "It answers.", self.open), "bad": Trial("Bad", "It fails.", self.fail)}

    def open(self, folder):
        self.opened += 1
        return Ready(INPUTS, answer)

    def fail(self, folder):
        raise RuntimeError("no weights")


def test_trials_are_opened_once_and_broken_ones_are_messages(monkeypatch, tmp_path, caplog):
    method = Offering()
    monkeypatch.setattr(trying, "load_method", lambda name: method)
    bench = Bench()
    _, ready = bench.open(tmp_path, "x", "t")
    assert bench.open(tmp_path, "x", "t")[1] is ready and method.opened == 1
    answers = bench.start(ready, GOOD)
    texts = [output_html(made) for made in iter(lambda: bench.following(answers), DONE)]
    assert len(texts) == 5
    assert 'alt="a square"' in texts[0] and "12 ms" in texts[0] and "Square &lt;1&gt;" in texts[0]
    assert "&lt;i&gt;abc&lt;/i&gt; 3" in texts[1] and 'value="0.4"' in texts[2] and 'value="0.2"' in texts[2]
    assert "sandbox srcdoc=" in texts[4] and "<script" not in texts[4]
    with pytest.raises(UserError, match="Rows is 99"):
        bench.start(ready, {**GOOD, "n": 99})
    answers = bench.start(ready, {**GOOD, "n": 9})
    with pytest.raises(UserError, match="the network broke"):
        list(iter(lambda: bench.following(answers), DONE))
    with pytest.raises(UserError, match="no weights"):
        bench.open(tmp_path, "x", "bad")
    with pytest.raises(UserError, match="offers no trial"):
        bench.open(tmp_path, "x", "other")


# --- the guard --------------------------------------------------------------------------------------------------


def ask(guard, host="127.0.0.1:8420", query="", cookie="", kind="http"):
    """Status (or close code) and headers that a request gets."""
    import asyncio

    sent = []

    async def send(message):
        sent.append(message)

    headers = [(b"host", host.encode()), *([(b"cookie", cookie.encode())] if cookie else [])]
    scope = {"type": kind, "path": "/run/a", "query_string": query.encode(), "headers": headers}
    asyncio.run(guard(scope, None, send))
    return sent[0].get("status", sent[0].get("code")), dict(sent[0].get("headers", []))


async def behind(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:1", 200),
        ("localhost", 200),
        ("[::1]:9", 200),
        ("evil.example", 403),
        ("", 403),
        ("127.0.0.1.evil.example:80", 403),
    ],
)
def test_on_loopback_only_loopback_is_answered(host, status):
    assert ask(Guard(behind, None), host)[0] == status


def test_elsewhere_the_token_is_needed_for_pages_and_websockets():
    guard = Guard(behind, "secret")
    assert ask(guard)[0] == 403 and ask(guard, kind="websocket")[0] == 1008
    assert ask(guard, query="token=wrong")[0] == 403 and ask(guard, cookie="stillhouse=wrong")[0] == 403
    status, headers = ask(guard, query="token=secret")
    assert status == 303 and headers[b"location"] == b"/run/a"
    assert b"HttpOnly" in headers[b"set-cookie"] and b"SameSite=Strict" in headers[b"set-cookie"]
    assert ask(guard, host="any.where", cookie="a=b; stillhouse=secret")[0] == 200
    assert ask(guard, query="token=secret", kind="websocket")[0] == 1008


# --- in a real browser ------------------------------------------------------------------------------------------


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@contextlib.contextmanager
def served(folder, *more):
    """The address of a server, which ends with the block."""
    pytest.importorskip("nicegui", reason="the extra `serve` is not installed")
    command = [sys.executable, "-m", "stillhouse", "serve", str(folder), "--port", str(free_port()), *more]
    # NiceGUI serves nothing where it sees that pytest runs it
    plain = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder, env=plain
    ) as process:
        try:
            address = process.stdout.readline().split()[1]
            until = time.monotonic() + 90
            while True:
                with contextlib.suppress(urllib.error.URLError):
                    status(address)
                    break
                assert time.monotonic() < until, "the server did not answer"
                time.sleep(0.2)
            yield address
        finally:
            process.terminate()


def status(address, **headers):
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers)) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


@pytest.fixture(scope="module")
def address(runs):
    with served(runs) as found:
        yield found.rstrip("/")


@pytest.fixture(scope="module")
def browser():
    with open_browser() as opened:
        yield opened


LOOKS = [{"width": 1200}, {"width": 390, "dark": True}]


def test_pages_are_accessible_and_fit_a_phone(address, browser, runs, at_work):
    axe = axe_core()
    browser.look()
    browser.goto(f"{address}/report/dmd2-0")
    browser.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=data:,><input>')")
    assert len(browser.serious(axe)) >= 2, "axe finds what is wrong"
    report = made_up_run(runs / "with-report")
    from stillhouse.reporting.report import write_report

    write_report(report, "DMD2")
    for page in (
        "/",
        "/run/dmd2-0",
        "/run/at-work",
        "/run/stopped",
        "/run/no-json",
        "/run/nowhere",
        "/report/with-report",
        "/compare?run=dmd2-0&run=dmd2-1&run=with-report",
        "/compare",
    ):
        for look in LOOKS:
            browser.look(**look)
            browser.goto(address + page)
            browser.wait("document.querySelector('h1')")
            assert browser.serious(axe) == [], (page, look)
            wide = browser.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            assert wide <= 0, (page, look, "scrolls sideways")
            assert browser.evaluate("document.title") and browser.evaluate("document.documentElement.lang")
            paper = browser.evaluate("getComputedStyle(document.body).backgroundColor")
            dark = int(re.findall(r"\d+", paper)[0]) < 100
            assert dark == bool(look.get("dark")), (page, look)
    assert browser.errors == []


def test_a_live_run_moves(address, browser, at_work):
    browser.look()
    browser.goto(f"{address}/run/at-work")
    browser.wait("document.body.innerText.includes('update 10 of 40')")
    told = browser.evaluate("document.body.innerText")
    assert "about 60 s left" in told and "fid 3.5" in told.lower()
    browser.wait("document.querySelector('.live-chart svg path')")
    for update in (11, 12):  # the first is glued to the line that was cut short
        at_work.record(stage="student", update=update, seconds=2.0 * update, fake_score=0.1, gan=0.1)
    browser.wait("document.body.innerText.includes('update 12 of 40')", 20)
    browser.goto(f"{address}/")
    browser.wait("document.body.innerText.includes('At work now')", 20)


def test_two_runs_are_compared_by_keyboard_alone(address, browser):
    browser.look()
    browser.goto(f"{address}/?state=finished")
    browser.wait("document.querySelector('input[type=checkbox]')")
    ticked = 0
    for _ in range(60):
        browser.press("Tab")
        kind = browser.evaluate("document.activeElement.type || document.activeElement.tagName")
        if kind == "checkbox" and ticked < 2:
            browser.press("Space")
            ticked += 1
        if browser.evaluate("document.activeElement.innerText") == "Compare the ticked runs":
            break
    assert ticked == 2
    browser.press("Enter")
    browser.wait("document.querySelector('h1').innerText == '2 runs side by side'")


def test_broken_requests_take_nothing_down(address):
    for page, code in (
        ("/report/stopped", 404),
        ("/report/..%2F..%2Fetc%2Fpasswd", 404),
        ("/compare?run=x&run=y", 404),
    ):
        assert status(address + page) == code, page
    assert status(address + "/?page=-5") == 200 and status(address + "/?page=x") in (200, 422, 500)
    assert status(address + "/", Host="evil.example") == 403
    assert status(address + "/") == 200


def test_a_trial_in_the_browser(browser, tmp_path):
    """The whole way: a tiny run, its page, the link, the button, student and teacher."""
    import stillhouse
    from rows import ROWS

    stillhouse.run("dmd2", out=tmp_path / "tiny", quiet=True, **ROWS["dmd2"])
    with served(tmp_path) as address:
        browser.look()
        browser.goto(f"{address}run/tiny")
        browser.wait("document.querySelector('#try a')")
        browser.evaluate("document.querySelector('#try a').click()")
        browser.wait("document.querySelector('.inputs button')")
        browser.evaluate("document.querySelector('.inputs button').click()")
        browser.wait("document.body.innerText.includes('teacher over student')")
        alts = browser.evaluate("[...document.querySelectorAll('.output img')].map(image => image.alt)")
        assert len(alts) == 2 and "student" in alts[0] and "teacher" in alts[1]
        assert browser.serious(axe_core()) == []


def test_a_slider_is_followed(browser, tmp_path):
    """By keyboard: the answer comes without the button, and belongs to where the slider rests."""
    import stillhouse
    from rows import ROWS

    stillhouse.run("autodistil", out=tmp_path / "tiny", quiet=True, **ROWS["autodistil"])
    with served(tmp_path) as address:
        browser.look()
        browser.goto(f"{address}run/tiny/try/front")
        browser.wait("document.querySelector('.q-slider [tabindex]')")
        browser.evaluate("document.querySelector('.q-slider [tabindex]').focus()")
        browser.press("ArrowRight")
        browser.wait("document.querySelector('.answers').innerText.includes('of the sub-space')")
        before = browser.evaluate("document.querySelector('.inputs').innerText")
        browser.press("ArrowLeft")
        browser.press("ArrowLeft")
        browser.wait(f"document.querySelector('.inputs').innerText != {before!r}")
        assert browser.serious(axe_core()) == [] and browser.errors == []


def test_elsewhere_a_token_is_made_up(tmp_path):
    with served(tmp_path, "--host", "0.0.0.0") as address:
        assert "?token=" in address and len(address.split("=")[1]) >= 24
        assert status(address.split("?")[0]) == 403


def test_servers_that_cannot_start_say_why(tmp_path, monkeypatch, capsys):
    from stillhouse.cli import dispatch

    with pytest.raises(UserError, match="no folder"):
        dispatch(["serve", str(tmp_path / "nowhere")])
    with pytest.raises(UserError, match="port 99999"):
        dispatch(["serve", str(tmp_path), "--port", "99999"])


def test_the_page_is_not_asked_of_other_places():
    """Nothing of ours names another site."""
    import stillhouse.serving

    for file in Path(stillhouse.serving.__file__).parent.glob("*.py"):
        assert "https://" not in file.read_text(), file

"""What holds for every method: it runs, resumes to equal results, saves and loads, and writes a report."""

import html
import json
from functools import partial
from pathlib import Path

import pytest
from safetensors.torch import load_file

import stillhouse
from golden import ELSEWHERE, EQUAL, GOLDEN, golden_of, machine, timeless_records
from rows import ROWS
from stillhouse import launch
from stillhouse.catalog import CATALOG, load_method
from stillhouse.core import training
from stillhouse.core.errors import UserError
from stillhouse.core.run import Run
from stillhouse.exporting.export import export
from stillhouse.serving.trying import DONE, Bench, output_html, trials_of

pytestmark = pytest.mark.parametrize("method", ROWS)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Finished tiny runs by method, each made once."""
    runs: dict[str, Run] = {}

    def get(method: str) -> Run:
        if method not in runs:
            out = tmp_path_factory.mktemp("runs") / method
            runs[method] = stillhouse.run(method, out=out, quiet=True, **ROWS[method])
        return runs[method]

    return get


def model_files(folder: Path) -> dict[str, Path]:
    return {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}


def test_finished_run_is_complete(method, finished):
    run = finished(method)
    for name in ("config.json", "environment.json", "log.txt", "result.json", "report.html"):
        assert (run.folder / name).stat().st_size > 0, name
    result = run.result
    assert result.method == method
    assert result.arm("student").metrics.keys() >= {result.metrics[0].key}
    assert any(arm.role in ("baseline", "floor") for arm in result.arms), "no baseline in the table"
    report = html.unescape((run.folder / "report.html").read_text(encoding="utf-8"))
    assert all(arm.name in report for arm in result.arms)
    assert (run.model_folder / "README.md").stat().st_size > 0


def test_losses_and_metrics_are_the_golden_ones(method, finished):
    """Refactoring keeps results; what is meant to change them makes golden.json anew (see golden.py)."""
    found, golden = golden_of(finished(method)), GOLDEN[method]
    assert found["losses"].keys() == golden["losses"].keys()
    assert found["metrics"].keys() == golden["metrics"].keys()
    same_machine = golden["machine"] == machine()
    for loss, values in golden["losses"].items():
        assert found["losses"][loss] == pytest.approx(values, rel=EQUAL if same_machine else ELSEWHERE, abs=1e-7), loss
    for arm, metrics in golden["metrics"].items():
        assert found["metrics"][arm].keys() == metrics.keys(), arm
        if same_machine:  # elsewhere a rank or a prediction may change sides
            assert found["metrics"][arm] == pytest.approx(metrics, rel=EQUAL, abs=1e-7, nan_ok=True), arm


def test_model_loads(method, finished):
    assert stillhouse.load(finished(method).folder) is not None


def test_its_formats_are_the_same_model(method, finished, tmp_path):
    run = finished(method)
    if not hasattr(load_method(method), "portable"):
        with pytest.raises(UserError, match="is not a network"):
            export(run.folder, "safetensors", tmp_path / "out")
        return
    format = next(iter(load_method(method).portable(run.folder).opens))
    made = export(run.folder, format, tmp_path / format)
    original, copy = made.checks
    assert copy.difference <= 1e-5 * original.scale
    assert copy.metrics == pytest.approx(original.metrics, abs=1e-6)
    card = (made.folder / "README.md").read_text(encoding="utf-8")
    assert f"## As {format}" in card and "Checked on" in card and "## Licence" in card


def test_its_trials_answer(method, finished):
    """With the inputs that the page opens with."""
    run, bench = finished(method), Bench()
    for word in trials_of(method):
        try:
            trial, ready = bench.open(run.folder, method, word)
        except UserError as error:
            assert "no edge" in str(error), "a few updates may find nothing for a graph; all else must open"
            continue
        assert trial.title and trial.about.endswith(".")
        answers = bench.start(ready, {name: kind.default for name, kind in ready.inputs.items()})
        shown = [output_html(answer) for answer in iter(partial(bench.following, answers), DONE)]
        assert shown and all(shown)


ONE_A_KIND = ("dmd2", "distiller", "similar_tasks", "biomedical_relations", "impossible")


def test_its_onnx_file_is_the_same_model(method, finished, tmp_path):
    if method not in ONE_A_KIND:
        pytest.skip("networks of the same kind are written by another method's test")
    made = export(finished(method).folder, "onnx", tmp_path / "onnx", int8="dynamic")
    original, full, small = made.checks
    assert full.share <= 1e-5 and small.share > full.share
    assert full.metrics == pytest.approx(original.metrics, rel=1e-3, abs=1e-3)
    assert small.size_bytes < full.size_bytes
    told = json.loads((made.folder / "export.json").read_text())
    assert [check["name"] for check in told["checks"]] == ["original", "onnx", "onnx int8 dynamic"]


def test_resume_after_a_stop_equals_the_straight_run(method, finished, tmp_path, monkeypatch):
    straight = finished(method)
    updates_seen = 0

    class Stop(Exception):
        pass

    stop_at = 3
    seed = training.seed_everything

    def counting_seed(*parts):
        nonlocal updates_seen
        updates_seen += 1
        if updates_seen == stop_at:
            raise Stop
        seed(*parts)

    options = launch.with_options(load_method(method).PRESETS["laptop"], dict(ROWS[method]))
    monkeypatch.setattr(training, "seed_everything", counting_seed)
    folder = tmp_path / "run"
    with pytest.raises(Stop):
        launch.start(method, options, out=folder, quiet=True, checkpoint_seconds=0)
    monkeypatch.undo()
    stillhouse.resume(folder, quiet=True)
    assert timeless_records(folder) == timeless_records(straight.folder)
    left, right = model_files(straight.model_folder), model_files(folder / "model")
    assert left.keys() == right.keys()
    for name, path in left.items():
        if path.suffix == ".safetensors":
            one, two = load_file(path), load_file(right[name])
            assert one.keys() == two.keys()
            assert all(one[key].equal(two[key]) for key in one), f"{name} differs after resuming"


def test_estimate_says_what_it_will_cost(method):
    module = load_method(method)
    config = launch.with_options(module.PRESETS["laptop"], dict(ROWS[method]))
    estimate = module.estimate(config)
    assert estimate.stages and all(stage.seconds >= 0 for stage in estimate.stages)


def test_presets_and_catalogue(method):
    module = load_method(method)
    assert set(module.PRESETS) >= {"laptop", "paper"}
    assert CATALOG[method].paper in (module.__doc__ or "").replace("\n", " ") or "arXiv" in (module.__doc__ or "")

"""From a name and options to a finished run: what the command and the Python call share."""

from __future__ import annotations

import dataclasses
import difflib
import shutil
from pathlib import Path
from typing import Any

from stillhouse.catalog import CATALOG, Method, load_method
from stillhouse.core.distributed import from_leader, rank, start_processes, stop_processes
from stillhouse.core.errors import UserError
from stillhouse.core.files import read_json
from stillhouse.core.options import from_plain, structured, to_plain
from stillhouse.core.result import save_result
from stillhouse.core.run import Run


def run(
    method: str,
    *,
    preset: str = "laptop",
    out: str | Path | None = None,
    quiet: bool = False,
    checkpoint_seconds: float = 30.0,
    **options: Any,
) -> Run:
    """Distil with `method` and return the finished run.

    Args:
        method: catalogue name ("dmd2", see `stillhouse list`).
        preset: "laptop" or "paper".
        out: run folder; runs/<method>-<time> by default.
        quiet: nothing on the terminal.
        checkpoint_seconds: at most this much work is lost by a kill.
        options: fields of the method's `Config`, over the preset.

    Raises:
        UserError: an option, file or folder is wrong; the message says how to mend it.
        Interrupted: the run was asked to stop; `resume(folder)` goes on.
    """
    module = load_method(method)
    config = with_options(preset_config(module, method, preset), options)
    return start(method, config, out=Path(out) if out else None, quiet=quiet, checkpoint_seconds=checkpoint_seconds)


def start(
    method: str,
    config: Any,
    *,
    out: Path | None = None,
    quiet: bool = False,
    checkpoint_seconds: float = 30.0,
) -> Run:
    """Make a run folder for a ready config and work until it is finished."""
    start_processes()
    try:
        module = load_method(method)
        settings = {"quiet": quiet, "checkpoint_seconds": checkpoint_seconds}
        if rank() == 0:
            options = to_plain(config)
            opened = Run.create(method, options, out=out, **settings)  # type: ignore[arg-type]
            from_leader(str(opened.folder))
        else:
            opened = Run.open(Path(from_leader("")), **settings)  # type: ignore[arg-type]
        with opened:
            try:
                return _work(module, config, opened)
            except UserError:
                # nothing was trained yet, here or in a part: the mended command may have the folder
                if opened.leader and not any(opened.folder.rglob("checkpoint")):
                    shutil.rmtree(opened.folder)
                raise
    finally:
        stop_processes()


def resume(folder: str | Path, *, quiet: bool = False, checkpoint_seconds: float = 30.0) -> Run:
    """Go on where a run stopped; a finished run only has its report written again.

    Raises:
        UserError: not a run folder, locked by another process, or its checkpoint is damaged.
    """
    start_processes()
    try:
        with Run.open(Path(folder), quiet=quiet, checkpoint_seconds=checkpoint_seconds) as opened:
            module = load_method(opened.method)
            config = from_plain(opened.options, module.Config, Path(folder))
            return _work(module, config, opened)
    finally:
        stop_processes()


def load(folder: str | Path) -> Any:
    """The ready model of a finished run.

    Raises:
        UserError: not a run folder, or the run has not finished.
    """
    record = read_json(Path(folder) / "config.json")
    if not (Path(folder) / "result.json").exists():
        raise UserError(f"{folder} has no result yet", f"finish it with: stillhouse resume {folder}")
    return load_method(record["method"]).load(Path(folder) / "model")


def compare(*folders: str | Path, out: str | Path = "comparison.html") -> Path:
    """Write one page for several finished runs, quality against cost, and return its path.

    Raises:
        UserError: fewer than two runs, one has not finished, or they share no metric.
    """
    from stillhouse.reporting.comparison import write_comparison

    return write_comparison([Path(folder) for folder in folders], Path(out))


def claims(results: str | Path | None = None) -> list[dict[str, Any]]:
    """The papers' claims and what was measured here, a dictionary a claim.

    Args:
        results: folder of result files; by default those that came with stillhouse.

    Raises:
        UserError: there are none, or one is damaged.
    """
    from stillhouse.core.evidence import load_evidence
    from stillhouse.reporting.claims import claims_data, results_folder

    folder = Path(results) if results else results_folder()
    if folder is None:
        raise UserError("this installation came without result files", "name a folder of them")
    return claims_data(load_evidence(folder))


def preset_config(module: Method, method: str, preset: str) -> Any:
    """The config of a preset.

    Raises:
        UserError: the method has no such preset.
    """
    if preset not in module.PRESETS:
        raise UserError(f"{method} has no preset {preset!r}", f"choose one of {', '.join(module.PRESETS)}")
    return module.PRESETS[preset]


def with_options(config: Any, options: dict[str, Any]) -> Any:
    """`config` with some fields replaced.

    Raises:
        UserError: a name is not a field of the config, or a value has the wrong type.
    """
    names = [field.name for field in dataclasses.fields(config)]
    for name in options:
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            raise UserError(
                f"no option {name!r}",
                f"did you mean {close[0]!r}?" if close else f"options: {', '.join(names)}",
            )
    try:
        return structured(to_plain(dataclasses.replace(config, **options)), type(config))
    except UserError:
        raise  # the config's own word is plainer
    except Exception as error:
        given = ", ".join(f"{name}={value!r}" for name, value in options.items())
        raise UserError(f"a wrong value among {given}", "see the types in: stillhouse run METHOD --help") from error


def _work(module: Method, config: Any, opened: Run) -> Run:
    from stillhouse.reporting.model_card import write_model_card
    from stillhouse.reporting.report import write_report

    if not opened.result_file.exists():
        result = module.distill(config, opened)
        if opened.leader:
            save_result(result, opened.result_file)
    if opened.leader:
        entry = CATALOG[opened.method]
        write_model_card(opened, entry.paper)
        report = write_report(opened, entry.title)
        opened.log(f"report: {report}")
    return opened

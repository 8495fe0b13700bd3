"""The commands. Starts without importing torch; every error a user can mend is one line and exit code 2.

Exit codes: 0 done; 1 an error of stillhouse's own, with a traceback; 2 something in the user's hands is wrong; 130 stopped and
resumable.
"""

from __future__ import annotations

import dataclasses
import difflib
import io
import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from stillhouse.catalog import CATALOG, COMMAND_HOMES, load_method
from stillhouse.core.errors import Interrupted, UserError


def list_methods(
    as_: Annotated[Literal["text", "json", "markdown"], tyro.conf.arg(name="as")] = "text",
    json_: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> None:
    """The methods: task, what you give, what you get.

    Args:
        as_: text, json, or markdown (the README's table).
        json_: machine-readable, as `--as json`.
    """
    if json_ or as_ == "json":
        print(json.dumps({name: dataclasses.asdict(entry) for name, entry in CATALOG.items()}, indent=1))
        return
    if as_ == "markdown":
        print(methods_markdown())
        return
    width = max(map(len, CATALOG))
    for name, entry in CATALOG.items():
        state = "" if entry.module else "  (not in this version yet)"
        print(f"{name:{width}}  {entry.task}: {entry.give} -> {entry.get}{state}")
        print(f"{'':{width}}  {entry.paper}")


def methods_markdown() -> str:
    """The catalogue as the README shows it."""
    head = "| name | task | you give | you get | paper |\n|---|---|---|---|---|"
    rows = (
        f"| `{name}`{'' if e.module else ' (not yet)'} | {e.task} | {e.give} | {e.get} | {e.paper} |"
        for name, e in CATALOG.items()
    )
    return "\n".join([head, *rows])


@dataclass(frozen=True)
class Launch:
    """How the run is carried out."""

    preset: str = "laptop"
    """laptop (embedded data, minutes on two cores) or paper (the published setting, for GPUs)."""
    out: Path | None = None
    """Run folder; runs/<method>-<time> by default."""
    dry_run: bool = False
    """Print the resolved config and what the run will cost, and stop."""
    quiet: bool = False
    """Nothing on the terminal but errors."""
    checkpoint_seconds: float = 30.0
    """At most this much work is lost by a kill."""


def run_method(args: Sequence[str]) -> None:
    """Distil: `stillhouse run METHOD [options]`; `stillhouse run METHOD --help` lists them."""
    if not args or args[0].startswith("-"):
        _print_lines("usage: stillhouse run METHOD [options]", "", *(f"  {name}" for name in CATALOG))
        if not args:
            raise UserError("no method named", "choose one from the list above")
        return
    name, rest = args[0], list(args[1:])
    module = load_method(name)
    from stillhouse import launch

    config_default = launch.preset_config(module, name, _given_preset(rest))

    def command(config: Any, how: Launch) -> None:
        if how.dry_run:
            _print_lines(*(f"{f.name} = {getattr(config, f.name)!r}" for f in dataclasses.fields(config)))
            _print_lines("", *module.estimate(config).lines())
            return
        launch.start(name, config, out=how.out, quiet=how.quiet, checkpoint_seconds=how.checkpoint_seconds)

    flat = tyro.conf.OmitArgPrefixes
    command.__annotations__ = {"config": Annotated[module.Config, flat], "how": Annotated[Launch, flat]}
    command.__defaults__ = (config_default, Launch())
    doc = (sys.modules[module.__name__].__doc__ or "").strip() if hasattr(module, "__name__") else ""
    tyro.cli(command, args=rest, prog=f"stillhouse run {name}", description=doc.split("\n\n")[0])


def _given_preset(args: Sequence[str]) -> str:
    for i, arg in enumerate(args):
        if arg == "--preset" and i + 1 < len(args):
            return args[i + 1]
        if arg.startswith("--preset="):
            return arg.split("=", 1)[1]
    return Launch.preset


def resume_run(folder: tyro.conf.Positional[Path], quiet: bool = False, checkpoint_seconds: float = 30.0) -> None:
    """Go on exactly where a run stopped.

    Args:
        folder: the run folder.
        quiet: nothing on the terminal but errors.
        checkpoint_seconds: at most this much work is lost by a kill.
    """
    from stillhouse import launch

    launch.resume(folder, quiet=quiet, checkpoint_seconds=checkpoint_seconds)


def compare_runs(folders: tyro.conf.Positional[tuple[Path, ...]], out: Path = Path("comparison.html")) -> None:
    """One page for several runs: quality against cost, side by side.

    Args:
        folders: finished run folders, two or more.
        out: the page.
    """
    from stillhouse.reporting.comparison import write_comparison

    print(write_comparison(list(folders), out))


def export_run(
    run: tyro.conf.Positional[Path],
    format: Literal["diffusers", "transformers", "safetensors", "onnx"],
    out: Path | None = None,
    int8: Literal["dynamic", "static"] | None = None,
    json: bool = False,
) -> None:
    """The model in another tool's format, checked against the original on real inputs.

    Args:
        run: a finished run folder.
        format: what to write.
        out: the folder to write; RUN/export/FORMAT by default.
        int8: with onnx, a second file with 8-bit weights; its loss of quality is shown.
        json: machine-readable.
    """
    from stillhouse.exporting.export import export, print_export

    print_export(export(run, format, out, int8), as_json=json)


def push_export(folder: tyro.conf.Positional[Path], to: str, public: bool = False) -> None:
    """Upload an exported folder to a model hub. Nothing is ever uploaded without this command.

    Args:
        folder: what `stillhouse export` wrote.
        to: owner/name of the repository; made where there is none.
        public: a new repository is for everybody; private by default.
    """
    from stillhouse.exporting.push import push

    print(push(folder, to, public=public))


def claims(results: Path | None = None, json: bool = False, readme: tuple[Path, ...] = ()) -> None:
    """The papers' claims beside what was measured here.

    Args:
        results: folder of result files that the benchmarks write; by default ./benchmarks/results, or those that came with stillhouse.
        json: machine-readable.
        readme: Markdown files: put the table between their claims markers instead of printing it.
    """
    from stillhouse.reporting.claims import print_claims, results_folder, update_file

    here = Path("benchmarks/results")
    results = results or (here if here.is_dir() else results_folder() or here)
    if not readme:
        print_claims(results, as_json=json)
    for file in readme:
        print(f"{file}: {'updated' if update_file(file, results) else 'up to date'}")


def list_runs(folder: tyro.conf.Positional[Path] = Path("runs"), json: bool = False) -> None:
    """The runs in a folder: running, finished, stopped or broken.

    Args:
        folder: of run folders.
        json: machine-readable.
    """
    from stillhouse.reporting.shelf import print_runs

    print_runs(folder, as_json=json)


def serve(
    folder: tyro.conf.Positional[Path] = Path("runs"),
    host: str = "127.0.0.1",
    port: int = 8420,
    token: str | None = None,
) -> None:
    """A local page: live progress, reports, comparisons, and models to try.

    Args:
        folder: of run folders, or one run.
        host: address to listen on; anything but loopback asks visitors for a token.
        port: to listen on.
        token: what visitors must have; made up and printed by default, where it is needed.
    """
    from stillhouse.serving.app import serve

    serve(folder, host, port, token)


def doctor(json: bool = False) -> None:
    """Versions, devices, caches, disk, and what each extra lacks.

    Args:
        json: machine-readable.
    """
    from stillhouse.doctor import print_examination

    print_examination(as_json=json)


def completion(shell: tyro.conf.Positional[Literal["bash", "zsh"]]) -> None:
    """A script that completes commands, methods and options, for your shell's folder of completions.

    bash: ~/.local/share/bash-completion/completions/stillhouse. zsh: a file _stillhouse in a folder of $fpath.

    Args:
        shell: whose.
    """
    from stillhouse.completion import completion_script

    print(completion_script(shell, COMMANDS, Launch), end="")


COMMANDS: dict[str, Callable[..., None]] = {
    "list": list_methods,
    "resume": resume_run,
    "compare": compare_runs,
    "export": export_run,
    "push": push_export,
    "claims": claims,
    "runs": list_runs,
    "serve": serve,
    "doctor": doctor,
    "completion": completion,
}


def print_help() -> None:
    """The commands, a line each."""
    rows = {"run": run_method, **COMMANDS}
    lines = [f"  {name:10} {(function.__doc__ or '').strip().splitlines()[0]}" for name, function in rows.items()]
    _print_lines(
        "usage: stillhouse COMMAND [options]",
        "",
        "Make models, training sets and tables small, fast and cheap by distillation, and prove it.",
        "",
        *lines,
        *(f"  {word:10} {home.says} ({home.method})" for word, home in COMMAND_HOMES.items()),
        f"  {'METHOD':10} A method's own commands, e.g. stillhouse mirage --help",
        "",
        "Each command has --help. --debug shows the traceback of an error.",
        "Exit codes: 0 done, 2 something to mend (one line says what), 130 stopped and resumable.",
        "Listings take --json. Colours are off in pipes and where $NO_COLOR is set.",
    )


def dispatch(args: Sequence[str]) -> None:
    """Carry out one command line."""
    if not args or args[0] in ("-h", "--help", "help"):
        print_help()
    elif args[0] == "--version":
        from importlib.metadata import version

        print(version("stillhouse"))
    elif args[0] == "run":
        run_method(args[1:])
    elif args[0] in COMMANDS:
        tyro.cli(COMMANDS[args[0]], args=list(args[1:]), prog=f"stillhouse {args[0]}")
    elif args[0] in CATALOG or args[0] in COMMAND_HOMES:
        _method_command(args[0], args[1:])
    else:
        close = difflib.get_close_matches(args[0], ["run", *COMMANDS, *COMMAND_HOMES], n=1)
        raise UserError(f"no command {args[0]!r}", f"did you mean {close[0]!r}?" if close else "see: stillhouse --help")


def _method_command(word: str, args: Sequence[str]) -> None:
    method = COMMAND_HOMES[word].method if word in COMMAND_HOMES else word
    commands = load_method(method).COMMANDS
    if word in commands:
        tyro.cli(commands[word], args=list(args), prog=f"stillhouse {word}")
        return
    if not commands:
        raise UserError(f"{method} has no commands of its own", f"use: stillhouse run {method}")
    if not args or args[0] in ("-h", "--help"):
        _print_lines(*(f"  {name:9} {(f.__doc__ or '').strip().splitlines()[0]}" for name, f in commands.items()))
    elif args[0] in commands:
        tyro.cli(commands[args[0]], args=list(args[1:]), prog=f"stillhouse {method} {args[0]}")
    else:
        raise UserError(f"{method} has no command {args[0]!r}", f"it has: {', '.join(commands)}")


def _print_lines(*lines: str) -> None:
    print("\n".join(lines))


def plain_output() -> None:
    """No colours where $NO_COLOR is set, and no error for a sign that the terminal cannot show."""
    if os.environ.get("NO_COLOR"):
        tyro._experimental_options["ansi_codes"] = False  # rich looks at the variable itself
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def carry_out(work: Callable[[], object], *, debug: bool = False) -> int:
    """Do `work` and return the exit code; an error that a user can mend is one line."""
    try:
        work()
    except UserError as error:
        if debug:
            traceback.print_exc()
        print(f"stillhouse: {error}", file=sys.stderr)
        return 2
    except Interrupted as error:
        print(f"stillhouse: {error}", file=sys.stderr)
        return 130
    except (KeyboardInterrupt, BrokenPipeError):
        return 130
    return 0


def main() -> None:
    """Entry point of `stillhouse`."""
    args = sys.argv[1:]
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    plain_output()
    code = carry_out(lambda: dispatch([arg for arg in args if arg != "--debug"]), debug="--debug" in args)
    if code:
        sys.exit(code)


if __name__ == "__main__":
    main()

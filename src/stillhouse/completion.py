"""Shell completion: every command, method and option in one script, printed by tyro."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Union

import tyro

from stillhouse.catalog import CATALOG, COMMAND_HOMES, Method, load_method
from stillhouse.core.errors import UserError

Shell = Literal["bash", "zsh"]


def completion_script(shell: Shell, commands: Mapping[str, Callable[..., Any]], launch_options: type[Any]) -> str:
    """The script of a shell, for the methods that are installed whole.

    Args:
        commands: the commands beside `run` and the methods' own.
        launch_options: the dataclass of options that `run` has beside a method's.
    """
    methods = installed_methods()
    tree = {
        **commands,
        "run": one_of({name: run_of(module, launch_options) for name, module in methods.items()}),
        **{name: one_of(module.COMMANDS) for name, module in methods.items() if module.COMMANDS},
        **{word: home_of(word, methods[home.method]) for word, home in COMMAND_HOMES.items() if home.method in methods},
    }
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        tyro.extras.subcommand_cli_from_dict(tree, prog="stillhouse", args=["--tyro-print-completion", shell])
    return printed.getvalue()


def installed_methods() -> dict[str, Method]:
    """The methods whose packages are all there."""
    found = {}
    for name in CATALOG:
        with contextlib.suppress(UserError):
            found[name] = load_method(name)
    return found


def home_of(word: str, method: Method) -> Callable[..., None]:
    """The command of a word: the method's command of that name, or all of its commands."""
    return method.COMMANDS[word] if word in method.COMMANDS else one_of(method.COMMANDS)


def run_of(module: Method, launch_options: type[Any]) -> Callable[..., None]:
    """The options of `stillhouse run METHOD`."""

    def command(config: Any, how: Any) -> None:
        del config, how

    flat = tyro.conf.OmitArgPrefixes
    command.__annotations__ = {"config": Annotated[module.Config, flat], "how": Annotated[launch_options, flat]}
    command.__defaults__ = (module.PRESETS["laptop"], launch_options())
    return command


def one_of(options: Mapping[str, Callable[..., Any]]) -> Callable[..., None]:
    """A command whose first word is one of the options."""

    def command(chosen: Any) -> None:
        del chosen

    words = tuple(Annotated[Any, tyro.conf.subcommand(n, constructor=f)] for n, f in options.items())
    # a union of one is that one, and would lose its word
    pair = words if len(words) > 1 else (*words, Annotated[Any, tyro.conf.subcommand("help", constructor=dict)])
    chosen: Any = Union[pair]  # noqa: UP007 (made of a tuple)
    command.__annotations__ = {"chosen": Annotated[chosen, tyro.conf.OmitSubcommandPrefixes, tyro.conf.OmitArgPrefixes]}
    return command

"""What all commands share: the application, arguments, errors as text, the console."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, Literal, ParamSpec, TypeVar

import typer

if TYPE_CHECKING:
    from rich.console import Console

P = ParamSpec("P")
R = TypeVar("R")

app = typer.Typer(
    name="omnicurate",
    help="Turn open corpora into training shards for omni-modal models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

RecipeArgument = Annotated[str, typer.Argument(help="Recipe file (YAML).")]
DataArgument = Annotated[str, typer.Argument(help="Data set folder, a version of it, a tar, or a folder of tars.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="Another value than the recipe's: flows.sft.mix.total=1000, or sources.vflan.weight=0.2 in its mix step.",
    ),
]
EngineOption = Annotated[Literal["ray", "local"], typer.Option(help="Ray workers, or this process alone.")]
AddressOption = Annotated[str, typer.Option(help="Ray cluster to join; `local` starts one here.")]
WorkersOption = Annotated[int | None, typer.Option(min=1, help="Processors to use with `--address local`.")]
StoreOption = Annotated[str, typer.Option(help="Store folder or URI.")]
RunArgument = Annotated[str | None, typer.Argument(help="Run id; the newest when left out.")]


def command(name: str, group: typer.Typer = app) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Register a command whose expected errors are shown as text, not as tracebacks."""

    def register(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            from schemas.errors import OmnicurateError, RecipeError

            try:
                return function(*args, **kwargs)
            except OmnicurateError as error:
                print(f"error: {error}", file=sys.stderr)
                raise typer.Exit(2 if isinstance(error, RecipeError) else 1) from None
            except BrokenPipeError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                raise typer.Exit(1) from None
            except KeyboardInterrupt:
                print("\nstopped; what was committed stays, run again to go on", file=sys.stderr)
                raise typer.Exit(130) from None

        return group.command(name)(guarded)

    return register


def settings_of(pairs: list[str] | None) -> dict[str, str]:
    """What `--set` says: path -> value. Raises RecipeError for a pair without `=`."""
    from schemas.errors import RecipeError

    found = {}
    for pair in pairs or ():
        path, equals, value = pair.partition("=")
        if not equals:
            raise RecipeError(f"--set {pair}: expected PATH=VALUE", "sources.vflan.weight=0.2")
        found[path] = value
    return found


def console() -> Console:
    """The terminal. Piped output is for other programs and logs: it is not folded at 80 columns."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=160)


def print_json(value: Any) -> None:
    """A report for programs."""
    print(json.dumps(value, ensure_ascii=False, indent=1, default=jsonable))


def jsonable(value: Any) -> str:
    """What JSON has no type for: bytes in hexadecimal, the rest as Python writes it."""
    return value.hex() if isinstance(value, bytes) else str(value)

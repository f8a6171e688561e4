"""What the toolkit says of itself: schema, doctor, new."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

import typer

from pipelines.cli.base import JsonOption, command, console, print_json


@command("schema")
def schema_command(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="The reference of recipes and steps, for reading.")
    ] = False,
) -> None:
    """The JSON schema of recipes, so that editors complete and check them."""
    from pipelines.describe import recipe_schema, reference

    if markdown:
        sys.stdout.write(reference())
    else:
        print_json(recipe_schema())


@command("doctor")
def doctor_command(as_json: JsonOption = False) -> None:
    """What of the toolkit is usable on this machine, and how to get the rest."""
    from pipelines.describe import doctor

    findings = list(doctor())
    if as_json:
        print_json([finding._asdict() for finding in findings])
        return
    from pipelines import render

    made = render.table("", "what", "found", "to get it", "used by")
    for found in findings:
        mark = "[green]ok[/]" if found.fine else "[yellow]--[/]"
        made.add_row(
            mark, found.what, found.found, "" if found.fine else found.remedy.replace("[", "\\["), found.used_by
        )
    console().print(made, highlight=False)


@command("new")
def new_command(
    kind: Annotated[Literal["recipe", "stage"], typer.Argument(help="What to begin.")],
    path: Annotated[str, typer.Argument(help="File to write.")],
) -> None:
    """Write a starter recipe or a starter stage."""
    from pipelines.describe import write_starter

    following = write_starter(kind, path)
    print(f"wrote {path}; next: {following}")

"""Data sets for others: forms that training code reads, and queues for people who check them."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from pipelines.cli.base import DataArgument, JsonOption, command, print_json

WhereOption = Annotated[str | None, typer.Option(help="Only samples for which this SQL condition holds.")]


@command("export")
def export_command(
    data: DataArgument,
    form: Annotated[
        Literal["llava", "openai", "interleaved", "kaldi", "nemo"], typer.Argument(metavar="FORMAT", help="The form.")
    ],
    out: Annotated[str, typer.Option("--out", "-o", help="Folder to write; it must not be there yet.")],
    where: WhereOption = None,
    text: Annotated[str | None, typer.Option(help="kaldi, nemo: column of the transcript (`text`).")] = None,
    speaker: Annotated[str | None, typer.Option(help="kaldi: column of the speaker.")] = None,
    inline: Annotated[bool, typer.Option("--inline", help="openai: media as data: URIs.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a data set in the form of LLaVA, the OpenAI API, interleaved documents, Kaldi or NeMo."""
    from pipelines.export.form import Options
    from pipelines.export.run import export, skips
    from pipelines.inspect.dataset import open_dataset

    report = export(open_dataset(data), form, out, where, Options(text, speaker, inline), force)
    if as_json:
        print_json(report)
        return
    print(f"{report['samples']:,} samples as {form} in {out}")
    if report["skipped"]:
        print(skips(report["skipped"]))

"""Data sets for others: forms that training code reads, and queues for people who check them."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from pipelines.cli.base import DataArgument, JsonOption, app, command, print_json

review = typer.Typer(help="Have people check samples, and take over what they decide.", no_args_is_help=True)
app.add_typer(review, name="review")

WhereOption = Annotated[str | None, typer.Option(help="Only samples for which this SQL condition holds.")]


@command("export")
def export_command(
    data: DataArgument,
    form: Annotated[
        Literal["llava", "openai", "interleaved", "kaldi", "nemo"], typer.Argument(help="The form to write.")
    ],
    out: Annotated[str, typer.Option("--output", "-o", help="Folder to write; it must not be there yet.")],
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


@command("export", review)
def review_export_command(
    data: DataArgument,
    out: Annotated[str, typer.Option("--output", "-o", help="File to write; it must not be there yet.")],
    where: WhereOption = None,
    sample: Annotated[int | None, typer.Option(min=1, help="A random choice of so many.")] = None,
    seed: Annotated[int, typer.Option(help="Of the random choice.")] = 0,
    form: Annotated[Literal["jsonl", "label-studio"], typer.Option("--format", help="JSON lines, or tasks.")] = "jsonl",
    text: Annotated[str | None, typer.Option(help="Column that may be edited (`text`, or `caption`).")] = None,
    media: Annotated[str | None, typer.Option(help="Folder for the media, below that of the file.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a queue of samples to check, with their media beside it."""
    from pipelines.export.run import skips
    from pipelines.inspect.dataset import open_dataset
    from pipelines.review.queue import write_queue

    report = write_queue(open_dataset(data), out, where, sample, seed, form, text, media)
    if as_json:
        print_json(report)
        return
    print(f"{report['tasks']:,} tasks in {out}")
    if report["skipped"]:
        print(skips(report["skipped"]))
    if form == "jsonl":
        print(f"next: omnicurate review page {out}")


@command("import", review)
def review_import_command(
    file: Annotated[str, typer.Argument(help="A filled-in queue, or an export of Label Studio (JSON).")],
    out: Annotated[str, typer.Option("--output", "-o", help="File of decisions to write, or to replace.")],
    as_json: JsonOption = False,
) -> None:
    """Read what people decided; the decisions are JSON lines for `ingest.jsonl` and `select.keys`."""
    from collections import Counter
    from pathlib import Path

    from pipelines.review.decisions import read_decisions, save

    decisions, undecided, problems = read_decisions(file)
    save(Path(out).absolute(), decisions)
    counts = Counter(decision.decision for decision in decisions)
    if as_json:
        print_json({**counts, "undecided": undecided, "problems": [problem._asdict() for problem in problems]})
    else:
        for problem in problems:
            print(f"{file}:{problem.line}: {problem.what}")
        made = ", ".join(f"{counts[name]:,} {name}" for name in ("accept", "edit", "reject"))
        print(f"{len(decisions):,} decisions ({made}) in {out}; {undecided:,} tasks have none")
    if problems:
        raise typer.Exit(1)


@command("page", review)
def review_page_command(
    queue: Annotated[str, typer.Argument(help="Queue of `omnicurate review export` (JSON lines).")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; any free one when left out.")] = 0,
    reviewer: Annotated[str, typer.Option(help="Who decides; it stands in the decisions.")] = "",
) -> None:
    """Check a queue in the browser, with the keys a, e, r and the arrows. Every decision is saved at once."""
    from pipelines.review.page import decisions_path, review_page

    with review_page(queue, reviewer, port) as page:
        print(f"{page.url} (decisions go to {decisions_path(queue)}; Ctrl-C ends)", flush=True)
        page.serve_forever()

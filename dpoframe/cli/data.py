"""`dpoframe data`: looks at preference data, reshapes it, and makes it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dpoframe.cli import build, reference
from dpoframe.errors import ConfigError

if TYPE_CHECKING:
    from dpoframe.data.inspection import Inspection
    from dpoframe.data.sources import Source
    from dpoframe.modality import Modality

SourceArgument = Annotated[
    str, typer.Argument(metavar="SOURCE", help="A file, a folder, a recipe (path or name), or hub:OWNER/NAME.")
]
LayoutOption = Annotated[str | None, typer.Option(help="The layout's name; told from the first rows unless given.")]
ColumnsOption = Annotated[list[str] | None, typer.Option(help="LAYOUT_COLUMN=FILE_COLUMN, such as prompt=question; repeatable.")]
SplitOption = Annotated[str | None, typer.Option(help="Of a folder or a data set on the hub, this split only.")]
SubsetOption = Annotated[str | None, typer.Option(help="Of a data set on the hub, this subset.")]
LimitOption = Annotated[int | None, typer.Option(min=1, help="Rows to read at most.")]


def register(app: typer.Typer) -> None:
    """Adds the verbs."""
    group = typer.Typer(name="data", help="Looks at preference data, reshapes it, and makes it.", no_args_is_help=True)
    group.command("check")(check)
    group.command("convert")(convert)
    build.register(group)
    reference.register(group)
    app.add_typer(group)


def check(
    source: SourceArgument,
    layout: LayoutOption = None,
    columns: ColumnsOption = None,
    split: SplitOption = None,
    subset: SubsetOption = None,
    recipe: Annotated[str | None, typer.Option(help="A recipe whose model's tokens decide what is cut.")] = None,
    against: Annotated[
        str | None, typer.Option(help="Validation data, named like SOURCE but no recipe, to find prompts that are in both.")
    ] = None,
    against_split: Annotated[str | None, typer.Option(help="As --split, for --against.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write the refused rows, as JSON Lines.")] = None,
    limit: LimitOption = None,
) -> None:
    """Checks preference data in one pass: which rows cannot be used and why, and what is doubtful about the set.

    Exits with 0 where all is well, 1 where something was found, 2 where the data cannot be used.
    """
    from dpoframe.cli.output import emit
    from dpoframe.data.sources import Source, exit_code, inspect_source
    from dpoframe.plugins import host

    if against is None and against_split is not None:
        raise ConfigError("--against-split belongs to --against, which names the validation data.")
    found, modality = _source(source, recipe, layout, columns, split, subset)
    if against is not None:
        options = {"layout": layout, "columns": found.options.get("columns"), "split": against_split, "subset": subset}
        found = replace(found, validation=replace(Source.named(against, **options), allow=found.allow))
    result = inspect_source(found, host(), modality, limit, out)
    code = exit_code(result)
    emit({**result.summary(), "exit": code}, _report(result, out))
    raise typer.Exit(code)


def convert(
    source: SourceArgument,
    out: Annotated[Path, typer.Option(help="The file to write.")],
    to: Annotated[str | None, typer.Option(help="jsonl or parquet; told from the name of --out unless given.")] = None,
    layout: LayoutOption = None,
    columns: ColumnsOption = None,
    split: SplitOption = None,
    subset: SubsetOption = None,
    quarantine: Annotated[Path | None, typer.Option(help="Where to write the refused rows, as JSON Lines.")] = None,
    limit: LimitOption = None,
    force: Annotated[bool, typer.Option(help="Replace --out where it exists.")] = False,
) -> None:
    """Writes preference data in the plain layout: prompt, chosen, rejected. Rows that fail the checks are left out."""
    from dpoframe.cli.output import emit, say
    from dpoframe.data.conversion import write_pairs
    from dpoframe.data.sources import inspect_source
    from dpoframe.plugins import host

    form = _form(to, out)
    if out.exists() and not force:
        raise ConfigError(f"{out} exists. Give another name, or --force to replace it.")
    if quarantine is not None and quarantine.resolve() == out.resolve():
        raise ConfigError(f"--out and --quarantine are the same file, {out}. Give --quarantine another name.")
    found, _ = _source(source, None, layout, columns, split, subset)
    result = inspect_source(found, host(), None, limit, quarantine, keep=lambda pairs: write_pairs(pairs, out, form))
    if result.refused:
        say(f"{result.refused:,} of {result.rows:,} rows are left out:\n{result.refusals()}", style="yellow")
    emit({**result.summary(), "out": out, "format": form}, f"{result.used:,} of {result.rows:,} rows written to {out}.")


def _form(to: str | None, out: Path) -> Any:
    form = to or {".parquet": "parquet", ".jsonl": "jsonl"}.get(out.suffix, "")
    if form not in ("jsonl", "parquet"):
        raise ConfigError(f"--to must be jsonl or parquet, found {to!r}; or give --out a name that ends in .jsonl or .parquet.")
    return form


def _source(
    given: str, recipe: str | None, layout: str | None, columns: list[str] | None, split: str | None, subset: str | None
) -> tuple[Source, Modality | None]:
    """The source, and the modality that measures it: that of --recipe, or of the recipe that is the source."""
    from dpoframe.data.sources import Source, parse_columns
    from dpoframe.plugins import host

    options = {"layout": layout, "columns": parse_columns(columns or ()), "split": split, "subset": subset}
    is_recipe = given.endswith((".yaml", ".yml")) or (not Path(given).exists() and given in host().names("recipe"))
    resolved: Any = None
    named = given if is_recipe else recipe
    if named is not None:
        from dpoframe.config import load_recipe

        resolved = load_recipe(named)
    modality: Modality | None = resolved.modality.value if resolved is not None else None
    if not is_recipe:
        return Source.named(given, **options), modality
    if any(value is not None for value in options.values()):
        raise ConfigError("--layout, --columns, --split and --subset do not go with a recipe; a recipe says them itself.")
    return Source.of_section(resolved.data), modality


def _report(result: Inspection, out: Path | None) -> Any:
    """The result for a person: a table of codes, the figures, the verdict."""
    from rich.console import Group

    from dpoframe.cli.output import escaped, table
    from dpoframe.data.codes import CODES

    rows = [(code, "refused", f"{count:,}", _first(result, code), CODES[code].fix if code in CODES else "")
            for code, count in result.by_code.most_common()]  # fmt: skip
    rows += [(one.code, one.kind, "", one.message, CODES[one.code].fix) for one in result.findings()]
    counts = f"{result.rows:,} rows = {result.used:,} usable + {result.refused:,} refused"
    head = f"{result.name}: {counts}; {len(result.prompts):,} prompts."
    parts: list[Any] = [escaped(head)]
    if rows:
        parts.append(table(("code", "kind", "rows", "first rows, or what was measured", "what to do"), rows))
    if figures := result.summary()["lengths"].get("chosen_longer"):
        parts.append(f"The chosen response is the longer one in {figures:.1%} of the pairs of unequal length.")
    if out is not None:
        parts.append(escaped(f"Refused rows are in {out}."))
    elif result.refused:
        parts.append("--out FILE writes all refused rows, one a line with source, row, code and reason.")
    return Group(*parts)


def _first(result: Inspection, code: str) -> str:
    shown = result.examples[code]
    in_one = {row.source for row in shown} == {result.name}
    places = [str(row.row) if in_one else f"{Path(row.source).name}:{row.row}" for row in shown]
    return f"row {', '.join(places)}: {shown[0].reason}"

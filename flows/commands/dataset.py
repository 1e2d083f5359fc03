"""``dexter dataset``: build versions of a data set, look at them, see what was refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dexter_model.errors import InputError
from flows.commands import hdf5, history, options

if TYPE_CHECKING:
    import polars as pl

app = typer.Typer(
    help="Data sets: build, inspect, pair, exchange with the original's files, list the quarantine.",
    no_args_is_help=True,
)
app.command("export-hdf5")(hdf5.export_hdf5)
app.command("import-hdf5")(hdf5.import_hdf5)
for command in (history.log, history.diff, history.rollback):
    app.command()(command)


@app.command()
def build(
    config: options.Config = None,
    corpus: Annotated[
        list[str] | None, typer.Option(help="Corpus to include; repeatable.", show_default="DEMO")
    ] = None,
    datasets_root: options.DatasetsRoot = None,
    data_root: options.DataRoot = None,
    store: Annotated[str | None, typer.Option(help="The data set: a folder or s3://bucket/prefix.")] = None,
    encoding: Annotated[
        str | None,
        typer.Option(
            metavar="codec|notes|composer",
            help="What of them: codecs over their scores, or the notes of performances by themselves.",
            show_default="codec",
        ),
    ] = None,
    perceptual: Annotated[
        str | None,
        typer.Option(
            metavar="csv|estimate|cnn:CHECKPOINT|none",
            help="Where perceptual features come from; csv falls back to the estimate.",
            show_default="estimate",
        ),
    ] = None,
    robust_alignments_only: options.RobustOnly = None,
    workers: options.Workers = None,
    retry_quarantined: Annotated[
        bool | None, typer.Option("--retry-quarantined", help="Try refused ones again.")
    ] = None,
    verify: Annotated[
        bool | None, typer.Option("--verify", help="Read every file, whatever its size and time.")
    ] = None,
    overrides: options.Overrides = None,
    dry_run: options.DryRun = False,
) -> None:
    """Build a new version of a data set from corpora; unchanged pieces are not computed again.

    The version holds exactly the corpora named; the version before stays as it was. A build that was interrupted goes
    on where it stopped. What cannot be encoded is quarantined with its reason.
    """
    from flows import build as flow
    from flows.configuration import load
    from flows.parameters import BuildParameters
    from tasks.progress import say

    given = {
        "corpora": corpus,
        "datasets_root": datasets_root,
        "data_root": data_root,
        "store": store,
        "encoding": encoding,
        "perceptual": perceptual,
        "robust_alignments_only": robust_alignments_only,
        "workers": workers,
        "retry_quarantined": retry_quarantined,
        "verify": verify,
    }
    parameters = load(BuildParameters, config, overrides or (), given)
    if not dry_run:
        flow.build(parameters)
        return
    say("dry run: the data set is not changed")
    planned = flow.dry_run(parameters)
    for corpus_name, piece, reason in planned.runs:
        print(f"{corpus_name}\t{piece}\t{reason}")
    if planned.resplit:
        say(f"{len(planned.resplit)} pieces would be in another split, as the rule of splits changed")


@app.command()
def info(url: options.Dataset, version: options.Version = None, as_json: options.Json = False) -> None:
    """Show a data set version: pieces, performances and notes by corpus and split, quarantine, digest."""
    from collections import Counter

    from dexter_model.dataset.perceptual import told_sources
    from dexter_model.dataset.store import list_versions, open_version
    from flows.commands.tables import print_table

    data = open_version(url, version)
    facts = {
        "url": url,
        "version": data.id,
        "digest": data.digest,
        "versions": list_versions(url),
        "pieces": data.catalogue.height,
        "performances": data.performances.height,
        "quarantined": data.quarantine.height,
        "perceptual": told_sources(Counter(data.performances["perceptual"])),
        "encoder": dict(data.encoder),
    }
    if as_json:
        print(json.dumps(facts, indent=1))
        return
    for name, value in facts.items():
        print(f"{name:13}{', '.join(value) if isinstance(value, list) else value}")
    print_table(_counts(data.catalogue))


def _counts(catalogue: pl.DataFrame) -> pl.DataFrame:
    """Pieces, performances and rows (score notes times performances) by corpus and split."""
    import polars as pl

    return (
        catalogue.group_by("corpus", "split")
        .agg(
            pl.len().alias("pieces"),
            pl.col("performances").sum(),
            (pl.col("notes") * pl.col("performances")).sum().alias("rows"),
        )
        .sort("corpus", "split")
    )


@app.command()
def pairs(
    url: options.Dataset,
    version: options.Version = None,
    window: options.Window = 200,
    hop: Annotated[
        int | None, typer.Option(min=1, help="Notes from window to window.", show_default="side by side")
    ] = None,
    count: Annotated[int | None, typer.Option(min=1, help="Pairs to draw, none twice.", show_default="all")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides which pairs are drawn.")] = 13,
    split: Annotated[
        Literal["train", "validation", "test"] | None, typer.Option(help="Only this split.", show_default="all")
    ] = None,
    mixup: Annotated[bool, typer.Option("--mixup", help="Add the training split's mixups to the unpaired.")] = False,
    out: Annotated[str, typer.Option(help="Folder for paired.parquet and unpaired.parquet.")] = "pairs",
) -> None:
    """Write index tables of all ordered pairs of real performances that play the same window of a piece.

    Columns: corpus, piece, split, the keys of both performances, a and b (their rows in the version's table of
    performances) and start (first note). unpaired.parquet lists windows without a partner, and mixups.
    """
    from dexter_model.dataset.pairs import pair_tables, write_pairs
    from dexter_model.dataset.store import open_version

    if hop is not None and hop > window:
        raise InputError(f"--hop {hop}", "leaves notes out between windows", f"Give at most {window}", "hop_too_long")
    data = open_version(url, version)
    paired, unpaired = pair_tables(data, window, hop=hop, count=count, seed=seed, split=split, mixups=mixup)
    made_from = {"dataset": data.digest, "window": window, "hop": hop or window, "seed": seed}
    write_pairs(out, paired, unpaired, {name: str(value) for name, value in made_from.items()})
    mixed = unpaired["b"].is_not_null().sum()
    print(f"{paired.height:,} pairs; {unpaired.height - mixed:,} windows that one plays alone, {mixed:,} mixups")
    print(out)


@app.command()
def quarantine(
    url: options.Dataset,
    version: options.Version = None,
    traceback: Annotated[bool, typer.Option("--traceback", help="Show where each one failed.")] = False,
    as_json: options.Json = False,
) -> None:
    """List what a build refused: performance, reason, remedy and digest of the file at fault."""
    from dexter_model.dataset.store import open_version
    from flows.commands.tables import print_table

    refused = open_version(url, version).quarantine
    if as_json:
        print(refused.write_json())
        return
    print_table(refused.select("corpus", "performance", "code", "reason", "remedy", refused["digest"].str.head(12)))
    print(f"{refused.height} quarantined")
    for row in refused.iter_rows(named=True) if traceback else ():
        print(f"\n{row['corpus']} {row['performance']}\n{row['traceback']}")

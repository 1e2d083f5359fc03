"""``dexter corpora``: what corpora there are, whether they are whole, and how to get them."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.commands import options

app = typer.Typer(help="Corpora: list them, check what is on disk, download.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="A corpus named by `dexter corpora list`.", show_default=False)]


@app.command("list")
def list_() -> None:
    """List the corpora that are known, with their source and licence."""
    from rich.console import Console
    from rich.table import Table

    from dexter_model.corpora import CORPORA

    table = Table("corpus", "what it is", box=None)
    for name, description in CORPORA.items():
        table.add_row(name, description)
    Console().print(table)


@app.command()
def check(
    name: Annotated[str | None, typer.Argument(help="A corpus.", show_default="all of them")] = None,
    datasets_root: options.DatasetsRoot = None,
    data_root: options.DataRoot = None,
    robust_alignments_only: options.RobustOnly = None,
) -> None:
    """Count a corpus's pieces and performances on disk, and name what is missing.

    Exit code 4 when something is missing.
    """
    from dexter_model.corpora import CORPORA
    from dexter_model.corpora.check import check as check_corpus
    from dexter_model.corpora.roots import CorpusRoots
    from dexter_model.errors import InputError

    roots, complete = CorpusRoots(datasets_root=datasets_root, data_root=data_root), True
    for corpus in CORPORA if name is None else [name]:
        try:
            found = check_corpus(corpus, roots, robust_only=bool(robust_alignments_only))
        except InputError as error:
            if name is not None:
                raise
            print(error)
            complete = False
        else:
            print(found.summary())
            complete = complete and found.complete
    if not complete:
        raise typer.Exit(4)


@app.command()
def download(name: Name, datasets_root: options.DatasetsRoot = None) -> None:
    """Download a public corpus at its pinned revision; what is already there is kept."""
    from dexter_model.corpora.download import download as download_corpus
    from dexter_model.corpora.roots import CorpusRoots
    from tasks.progress import bar, say

    roots = CorpusRoots(datasets_root=datasets_root)
    with bar(f"downloading {name}", None) as advance_to:
        folder = download_corpus(name, roots, advance_to)
    say(f"{name} is in {folder}")

"""``dexter dataset export-hdf5`` and ``import-hdf5``: the storage of the original DExter, both ways."""

from __future__ import annotations

from typing import Annotated

import typer

from dexter_model.errors import InputError
from flows.commands import options


def export_hdf5(
    url: options.Dataset,
    out: Annotated[str, typer.Argument(help="Folder to write to.", show_default=False)],
    version: options.Version = None,
    window: options.Window = 200,
    mixup: Annotated[
        bool, typer.Option("--mixup", help="Add the means of every two performances of a training piece.")
    ] = False,
    pairs: Annotated[
        int | None, typer.Option(min=1, help="Write lists of this many pairs too.", show_default="none")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides which pairs are drawn.")] = 13,
    datasets_root: options.DatasetsRoot = None,
    data_root: options.DataRoot = None,
    path_remap: options.PathRemap = None,
) -> None:
    """Write a data set as the original DExter's files: HDF5 windows, note ids, pairs, errors.

    codec_N={N}[_mixup].hdf5 has a group a performance: p_codec, s_codec, c_codec (NaN where not known) and paths. The
    paths of scores lead from --out to the corpora found on this machine, --path-remap writes others. Pairs are plain
    numbers.
    """
    from dexter_model.dataset import hdf5
    from dexter_model.dataset.hdf5_pairs import export_pairs
    from dexter_model.dataset.store import open_version
    from dexter_model.places import shown, writing
    from tasks.progress import bar, say

    prefixes = options.remap(path_remap)
    data = open_version(url, version)
    scores, missing = _score_paths(data.catalogue["corpus"].unique().to_list(), datasets_root, data_root)
    for told in missing:
        say(f"no score paths: {told}")
    with writing(out) as written, bar("Exporting performances", data.performances.height) as advance_to:
        done = hdf5.export_hdf5(
            data, written.folder, window, mixups=mixup, score_paths=scores, path_remap=prefixes, progress=advance_to
        )
        listed = export_pairs(data, written.folder, window, pairs, seed, mixups=mixup) if pairs else ()
    print(f"{done.performances:,} performances, {done.windows:,} windows, {done.errors:,} errors: {shown(done.path)}")
    for path in listed:
        print(shown(path))


def _score_paths(
    corpora: list[str], datasets_root: str | None, data_root: str | None
) -> tuple[dict[tuple[str, str], str], list[str]]:
    """The score's file by corpus and piece, and which corpora are not to be found."""
    from dexter_model.corpora import CORPORA, discover
    from dexter_model.corpora.roots import CorpusRoots

    roots = CorpusRoots(datasets_root=datasets_root, data_root=data_root)
    paths: dict[tuple[str, str], str] = {}
    missing = []
    for corpus in sorted(set(corpora) & set(CORPORA)):
        try:
            paths |= {(corpus, piece.key): piece.score for piece in discover(corpus, roots) if piece.score}
        except InputError as error:
            missing.append(str(error))
    return paths, missing


def import_hdf5(
    path: Annotated[str, typer.Argument(help="A codec_N=...hdf5 of DExter's layout.", show_default=False)],
    url: options.Dataset,
    path_remap: options.PathRemap = None,
    pairs: Annotated[
        list[str] | None,
        typer.Option(help="A list of pairs (.npy) beside it, written as Parquet to --out. Repeatable."),
    ] = None,
    out: Annotated[str, typer.Option(help="Folder for the tables of pairs.")] = "pairs",
) -> None:
    """Make a data set of an HDF5 file of the original DExter, or of ours; the version holds exactly the file.

    Beats and markings come from the score files that score_path names: lead there with --path-remap. What is lost, and
    how many windows change their split, is told. Pickled lists of pairs are refused.
    """
    from dexter_model.dataset import hdf5_import
    from dexter_model.dataset.hdf5_pairs import import_pairs
    from dexter_model.dataset.pairs import write_table
    from dexter_model.places import join, local, name_of
    from dexter_model.reading.sandbox import Sandbox
    from tasks.progress import bar, say

    with Sandbox() as sandbox, bar("Importing performances", None) as advance_to:
        moved = options.remap(path_remap)
        done = hdf5_import.import_hdf5(local(path), url, sandbox, path_remap=moved, progress=advance_to)
        for told, count in done.lost.items():
            say(f"{count:,} {told}")
        data = done.version
        for file in pairs or ():
            table = import_pairs(local(file), data, data.encoder["parameters"]["window"], sandbox)
            name = f"{name_of(file).removesuffix('.npy')}.parquet"
            write_table(join(out, name), table, {"dataset": data.digest})
    print(
        f"{data.performances.height:,} performances of {data.catalogue.height:,} pieces, "
        f"{data.quarantine.height:,} quarantined: version {data.id}, digest {data.digest[:12]}"
    )

"""``dexter encode`` and ``dexter decode``: a performance as numbers per score note, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dexter_model.errors import InputError
from flows.commands import options


def encode(
    performance: Annotated[Path | None, typer.Argument(help="A match file, or a MIDI file with --alignment.")] = None,
    score: Annotated[Path | None, typer.Option(help="The score: MusicXML, MXL, MEI, Kern, match or MIDI.")] = None,
    alignment: Annotated[Path | None, typer.Option(help="note_alignment.tsv as in (n)ASAP, or a match file.")] = None,
    corpus: Annotated[str | None, typer.Option(help="Encode a whole corpus instead.")] = None,
    datasets_root: options.DatasetsRoot = None,
    data_root: options.DataRoot = None,
    out: Annotated[Path, typer.Option(help="The .npz file to write; with --corpus, a folder.")] = Path("codec.npz"),
) -> None:
    """Encode performances: tempo, velocity, timing, articulation and pedal for every score note.

    Writes one .npz a performance: p_codec (n, 5), s_codec (n, 4), matched (n), note_id (n). In a corpus, a performance
    that cannot be encoded is told at the end and the exit code is 4.
    """
    from dexter_model.codec.files import save_codec
    from dexter_model.reading.sandbox import Sandbox
    from tasks.encode import encode_files
    from tasks.progress import say

    if (corpus is None) == (performance is None):
        raise InputError("dexter encode", "needs a performance or --corpus", "Give one of the two", "usage")
    if corpus is not None:
        _encode_corpus(corpus, datasets_root, data_root, out)
        return
    if score is None:
        raise InputError(performance, "was given without its score", "Add --score SCORE", "usage")
    with Sandbox(timeout=10) as sandbox:
        encoded = encode_files(sandbox, str(performance), str(score), str(alignment) if alignment else None)
    save_codec(out, encoded)
    unknown = f", {encoded.unknown_ids} ids the score does not have" if encoded.unknown_ids else ""
    say(f"{out}: {len(encoded.matched)} notes, {int(encoded.matched.sum())} matched{unknown}")


def _encode_corpus(corpus: str, datasets_root: Path | None, data_root: Path | None, out: Path) -> None:
    from dexter_model.corpora import discover
    from dexter_model.corpora.roots import CorpusRoots
    from dexter_model.reading.sandbox import Sandbox
    from tasks.encode import encode_corpus
    from tasks.progress import say, track

    sources = discover(corpus, CorpusRoots(datasets_root=datasets_root, data_root=data_root))
    with Sandbox() as sandbox:
        done = encode_corpus(sandbox, track(sources, len(sources), f"encoding {corpus}"), out)
    for error in done.quarantined:
        say(f"quarantined ({error.code}) {error}")
    say(f"{out}: {len(done.written)} encoded, {len(done.quarantined)} quarantined")
    if done.quarantined:
        raise typer.Exit(4)


def decode(
    codec: Annotated[Path, typer.Argument(help="A codec file written by encode or render.")],
    score: Annotated[Path, typer.Option(help="The score it was encoded against.")],
    out: Annotated[Path, typer.Option(help="The performance MIDI to write.")],
) -> None:
    """Decode a codec file to a performance MIDI with pedal."""
    from dexter_model.codec.performance_midi import write_performance_midi
    from dexter_model.reading.sandbox import Sandbox
    from tasks.encode import decode_file
    from tasks.progress import say

    with Sandbox(timeout=10) as sandbox:
        performance = decode_file(sandbox, codec, str(score))
    write_performance_midi(performance, out)
    say(f"{out}: {len(performance.notes)} notes")

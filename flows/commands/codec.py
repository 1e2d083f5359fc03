"""``dexter encode`` and ``dexter decode``: a performance as numbers per score note, and back."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.commands import options


def encode(
    performance: Annotated[str | None, typer.Argument(help="A match file, or a MIDI file with --alignment.")] = None,
    score: Annotated[str | None, typer.Option(help="The score: MusicXML, MXL, MEI, Kern, match or MIDI.")] = None,
    alignment: Annotated[str | None, typer.Option(help="note_alignment.tsv as in (n)ASAP, or a match file.")] = None,
    corpus: Annotated[str | None, typer.Option(help="Encode a whole corpus instead.")] = None,
    datasets_root: options.DatasetsRoot = None,
    data_root: options.DataRoot = None,
    out: Annotated[str, typer.Option(help="The .npz file to write; with --corpus, a folder.")] = "codec.npz",
) -> None:
    """Encode performances: tempo, velocity, timing, articulation and pedal for every score note.

    Writes one .npz a performance: p_codec (n, 5), s_codec (n, 4), matched (n), note_id (n). In a corpus, a performance
    that cannot be encoded is told at the end and the exit code is 4.
    """
    from flows.configuration import load
    from flows.encode import encode as flow
    from flows.parameters import EncodeParameters

    given = {
        "performance": performance,
        "score": score,
        "alignment": alignment,
        "corpus": corpus,
        "datasets_root": datasets_root,
        "data_root": data_root,
        "out": out,
    }
    if flow(load(EncodeParameters, options=given)).quarantined:
        raise typer.Exit(4)


def decode(
    codec: Annotated[str, typer.Argument(help="A codec file written by encode or render.")],
    score: Annotated[str, typer.Option(help="The score it was encoded against.")],
    out: Annotated[str, typer.Option(help="The performance MIDI to write.")],
) -> None:
    """Decode a codec file to a performance MIDI with pedal."""
    from dexter_model.codec.performance_midi import write_performance_midi
    from dexter_model.reading.sandbox import Sandbox
    from flows.encode import ONE_FILE_SECONDS
    from tasks.encode import decode_file
    from tasks.progress import say

    with Sandbox(timeout=ONE_FILE_SECONDS) as sandbox:
        performance = decode_file(sandbox, codec, score)
    write_performance_midi(performance, out)
    say(f"{out}: {len(performance.notes)} notes")

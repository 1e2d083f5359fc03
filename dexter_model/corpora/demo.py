"""The demo corpus: what can be had without a download, for trying everything out.

One piece is real: the aligned performance inside the parangonar package. The others are synthetic: scores of MUSIC21
played by the virtual pianists of the KTH rules, laid out as (n)ASAP lays out its performances, made once and kept in
the cache. They show the plumbing, not what people play, and say so in titles, performers, keys and ``synthetic``.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path

import numpy as np

from dexter_model.codec.performance_codec import decode
from dexter_model.codec.performance_midi import write_performance_midi
from dexter_model.corpora.layouts import music21, packaged
from dexter_model.corpora.sources import PerformanceSource, PieceSource
from dexter_model.corpora.works import work_id
from dexter_model.digests import cache_dir, file_digest, json_digest, write_atomically
from dexter_model.errors import InputError
from dexter_model.notes import Performance, Score
from dexter_model.performers.kth import PIANISTS, Pianist, perform
from dexter_model.reading.midi import load_midi
from dexter_model.reading.score import load_score

GENERATOR_VERSION = 2  # to be raised whenever the rules, the decoder or the files written change

# Keyboard music of MUSIC21, by chance of the works' hashes six to train on, one to validate, one to test (BWV 846).
SCORES = {
    "bach/bwv4.8.mxl": "Chorale BWV 4/8",
    "bach/bwv66.6.mxl": "Chorale BWV 66/6",
    "bach/bwv846.mxl": "Prelude BWV 846",
    "cpebach/h186.mxl": "Sonata H 186, Poco adagio",
    "mozart/k545/movement1_exposition.mxl": "Sonata K 545, exposition",
    "schumann_clara/polonaise_op1n2.mxl": "Polonaise op. 1 no. 2",
    "schumann_clara/polonaise_op1n4.mxl": "Polonaise op. 1 no. 4",
    "verdi/laDonnaEMobile.mxl": "La donna è mobile",
}


def discover() -> list[PieceSource]:
    """The real piece and the synthetic ones; what is missing of these is made first (some 10 s).

    Raises:
        InputError: a package came without its data, or the cache cannot be written (``cache_unwritable``).
    """
    scores = [piece for piece in music21(packaged("music21", "corpus")) if piece.key in SCORES]
    parts = [GENERATOR_VERSION, [dataclasses.asdict(p) for p in PIANISTS], [file_digest(str(s.score)) for s in scores]]
    try:
        root = cache_dir() / "corpora" / f"demo-{json_digest(parts)[:16]}"
        synthetic = [_synthetic(score, root) for score in scores]
    except OSError as error:
        reason = f"the synthetic performances cannot be kept there ({error.strerror})"
        remedy = "Set DEXTER_CACHE_DIR to a folder that can be written"
        raise InputError(error.filename or "DEMO", reason, remedy, "cache_unwritable") from error
    return [_real(packaged("parangonar", "assets", "mozart_k265_var1.match")), *synthetic]


def _real(match: Path) -> PieceSource:
    performance = PerformanceSource(match.name, str(match), None, "unknown pianist")
    work, title = work_id("Mozart", "k265_var1"), "Variations on 'Ah vous dirai-je, Maman' K 265, variation 1"
    return PieceSource("DEMO", match.stem, work, "Mozart", title, str(match), (performance,))


def _synthetic(score: PieceSource, root: Path) -> PieceSource:
    key = "synthetic/" + score.key.rpartition(".")[0].replace("/", "_")
    folder = root / key
    if not folder.is_dir():
        _play(Path(str(score.score)), folder)
    performances = tuple(
        PerformanceSource(
            f"{key}/{pianist.name}.mid",
            str(folder / f"{pianist.name}.mid"),
            str(folder / f"{pianist.name}_note_alignments" / "note_alignment.tsv"),
            f"rules: {pianist.name}",
            synthetic=True,
        )
        for pianist in PIANISTS
    )
    title = f"{SCORES[score.key]} (synthetic)"
    return dataclasses.replace(score, corpus="DEMO", key=key, title=title, performances=performances)


def _play(score: Path, folder: Path) -> None:
    """Let every pianist play a score; the folder appears when all are done."""
    notated = load_score(score)
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}")
    for pianist in PIANISTS:
        write_performance(notated, pianist, unfinished)
    try:
        unfinished.rename(folder)
    except OSError:  # another process was faster; its files are the same
        shutil.rmtree(unfinished)
        if not folder.is_dir():
            raise


def write_performance(score: Score, pianist: Pianist, folder: Path) -> None:
    """Write one performance as (n)ASAP does: ``<pianist>.mid`` and its ``note_alignment.tsv``."""
    played = _one_a_key(score.notes)
    codec = perform(score.notes, pianist)
    performance = decode(score.notes[played], score.note_id[played], codec[played])
    midi = folder / f"{pianist.name}.mid"
    midi.parent.mkdir(parents=True, exist_ok=True)
    write_performance_midi(performance, midi)
    table = _alignment_table(score, performance, load_midi(midi))
    write_atomically(folder / f"{pianist.name}_note_alignments" / "note_alignment.tsv", table.encode())


def _one_a_key(notes: np.ndarray) -> np.ndarray:
    """Which notes (n,) are played: of several at one time on one key, the longest; the others are deletions."""
    order = np.lexsort((-notes["duration_div"], notes["pitch"], notes["onset_div"]))
    _, first = np.unique(notes[order][["onset_div", "pitch"]], return_index=True)
    played = np.zeros(len(notes), bool)
    played[order[first]] = True
    return played


def _alignment_table(score: Score, performance: Performance, read_back: Performance) -> str:
    """(n)ASAP's table, with the ids that the MIDI file's notes have when read: a key's k-th note is its k-th there."""
    if not np.array_equal(np.sort(performance.notes["pitch"]), np.sort(read_back.notes["pitch"])):
        raise RuntimeError("the MIDI file does not hold the notes that were played")
    mine, theirs = (np.lexsort((p.notes["onset_sec"], p.notes["pitch"])) for p in (performance, read_back))
    columns = [read_back.note_id, *(read_back.notes[name] for name in ("track", "channel", "pitch", "onset_sec"))]
    heard = zip(*(column[theirs].tolist() for column in columns), strict=True)
    midi = dict(zip(performance.note_id[mine].tolist(), heard, strict=True))
    lines = [("xml_id", "midi_id", "track", "channel", "pitch", "onset")]
    lines += [(note_id, *midi.get(note_id, ("deletion", "", "", "", ""))) for note_id in score.note_id.tolist()]
    return "".join("\t".join(map(str, line)) + "\n" for line in lines)

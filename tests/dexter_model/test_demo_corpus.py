"""The demo corpus as users meet it: made on first use, read back, encoded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dexter_model.codec.performance_codec import encode
from dexter_model.corpora import demo, discover
from dexter_model.corpora.check import check
from dexter_model.corpora.roots import CorpusRoots
from dexter_model.corpora.sources import PieceSource
from dexter_model.dataset.splits import split_of_works
from dexter_model.performers.kth import PIANISTS, perform
from dexter_model.reading.alignment import load_alignment, needs_unfolding
from dexter_model.reading.match import load_match
from dexter_model.reading.midi import load_midi
from dexter_model.reading.score import load_score


@pytest.fixture(scope="module")
def pieces() -> list[PieceSource]:
    return discover("DEMO", CorpusRoots())


def synthetic(pieces: list[PieceSource]) -> list[PieceSource]:
    return [piece for piece in pieces if piece.key.startswith("synthetic/")]


def test_one_real_piece_and_eight_synthetic_ones_labelled_so(pieces: list[PieceSource]) -> None:
    assert len(pieces) == 1 + len(demo.SCORES) == 9
    real = next(piece for piece in pieces if piece not in synthetic(pieces))
    assert real.work == "mozart/k-265/1"
    assert [(p.key, p.synthetic) for p in real.performances] == [("mozart_k265_var1.match", False)]
    for piece in synthetic(pieces):
        assert piece.title.endswith("(synthetic)")
        assert [p.performer for p in piece.performances] == [f"rules: {pianist.name}" for pianist in PIANISTS]
        assert all(p.synthetic and p.key.startswith("synthetic/") for p in piece.performances)
    found = check("DEMO", CorpusRoots())
    assert found.complete
    assert found.with_both == found.performances == 1 + 8 * len(PIANISTS)


def test_works_are_those_of_music21_and_fill_every_split(pieces: list[PieceSource]) -> None:
    scores = {piece.score: piece.work for piece in discover("MUSIC21", CorpusRoots())}
    assert all(scores[piece.score] == piece.work for piece in synthetic(pieces))
    splits = list(split_of_works(piece.work for piece in pieces).values())
    assert {name: splits.count(name) for name in set(splits)} == {"train": 6, "validation": 1, "test": 2}


def test_the_real_performance_is_whole(pieces: list[PieceSource]) -> None:
    real = next(piece for piece in pieces if piece not in synthetic(pieces))
    encoded = encode(load_score(str(real.score)), *load_match(real.performances[0].performance))
    assert len(encoded.rows) == 218
    assert encoded.matched.all()


def test_files_say_what_the_pianists_played(pieces: list[PieceSource]) -> None:
    for piece in synthetic(pieces):
        score = load_score(str(piece.score))
        assert 150 < len(score.notes) < 850
        for pianist, source in zip(PIANISTS, piece.performances, strict=True):
            alignment, performance = load_alignment(str(source.alignment)), load_midi(source.performance)
            encoded, codec = encode(score, performance, alignment), perform(score.notes, pianist)
            assert not needs_unfolding(alignment)
            assert encoded.unknown_ids == 0
            assert len(encoded.rows) == len(score.notes)
            assert len(performance.notes) == encoded.matched.sum() > 0.9 * len(score.notes)
            played = encoded.matched
            inner = played & (score.notes["onset_beat"] < score.notes["onset_beat"].max())
            np.testing.assert_allclose(encoded.p_codec[played, 1], codec[played, 1], atol=1e-6)
            np.testing.assert_array_equal(encoded.p_codec[played, 4] > 0.5, codec[played, 4] > 0.5)
            assert np.abs(encoded.p_codec[inner, 0] / codec[inner, 0] - 1).max() < 0.1
            keydown = (encoded.keydown_articulation - codec[:, 3])[played]
            assert np.median(np.abs(keydown)) < 0.02
            assert performance.pedal[-1, 1] == 0


def test_one_of_two_notes_on_one_key_is_a_deletion() -> None:
    score = load_score(demo.packaged("music21", "corpus", "bach", "bwv66.6.mxl"))
    played = demo._one_a_key(score.notes)
    keys = score.notes[played][["onset_div", "pitch"]]
    assert len(np.unique(keys)) == len(keys) < len(score.notes)


def test_files_are_made_once_alike_and_anew_when_missing(
    pieces: list[PieceSource], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEXTER_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(demo, "SCORES", {"bach/bwv66.6.mxl": "Chorale"})
    (piece,) = synthetic(discover("DEMO", CorpusRoots()))
    for source in piece.performances:
        (before,) = [p for old in synthetic(pieces) for p in old.performances if p.key == source.key]
        assert Path(before.performance).read_bytes() == Path(source.performance).read_bytes()
        assert Path(str(before.alignment)).read_bytes() == Path(str(source.alignment)).read_bytes()
    folder = Path(piece.performances[0].performance).parent
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    stamp = folder.stat().st_mtime_ns
    discover("DEMO", CorpusRoots())
    assert folder.stat().st_mtime_ns == stamp


def test_once_made_it_is_discovered_without_partitura(pieces: list[PieceSource]) -> None:
    program = (
        "import sys; from dexter_model.corpora import discover; from dexter_model.corpora.roots import CorpusRoots\n"
        "print(len(discover('DEMO', CorpusRoots())), 'partitura' in sys.modules, 'music21' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert told.split() == [str(len(pieces)), "False", "False"]

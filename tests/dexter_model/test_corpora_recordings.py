"""Corpora of performances alone: MAESTRO with its table, Lakh, and folders of all kinds of files, here and at S3."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dexter_model import s3
from dexter_model.corpora import ALONE, discover
from dexter_model.corpora.check import check
from dexter_model.corpora.download import download
from dexter_model.corpora.roots import CorpusRoots
from dexter_model.dataset.piece import digest_or_empty
from dexter_model.errors import InputError
from dexter_model.places import copy_of, join, record_of
from dexter_model.reading.recording import load_recording

HERE = Path(__file__).parent / "note_sequences"
TABLE = """canonical_composer,canonical_title,split,year,midi_filename,audio_filename,duration
Frédéric Chopin,"Etude Op. 10 No. 3",train,2004,2004/a.midi,2004/a.wav,698.6
Franz Schubert / Franz Liszt,"Der Müller und der Bach",test,2018,2018/b.midi,2018/b.wav,300.1
Carl Philipp Emanuel Bach,Rondo,validation,2018,2018/gone.midi,2018/gone.wav,100
Nobody,Outside,train,2018,../outside.midi,x.wav,1
"""


@pytest.fixture(autouse=True)
def _no_roots(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("DEXTER_DATASETS_ROOT", "DEXTER_DATA_ROOT"):
        monkeypatch.delenv(variable, raising=False)


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_maestro_is_what_its_table_lists_and_split_as_it_says(tmp_path: Path) -> None:
    root = touch(tmp_path / "maestro-v3.0.0", "2004/a.midi", "2018/b.midi", "2018/stranger.midi", "../outside.midi")
    (root / "maestro-v3.0.0.csv").write_text(TABLE)
    chopin, liszt = discover("MAESTRO", CorpusRoots(tmp_path))
    assert (chopin.key, chopin.work, chopin.split) == ("2004/a.midi", "chopin/op-10/3", "train")
    assert (chopin.composer, chopin.title, chopin.score) == ("Frédéric Chopin", "Etude Op. 10 No. 3", None)
    assert (liszt.work, liszt.split) == ("liszt/der-müller-und-der-bach", "test")
    assert [Path(piece.performances[0].performance) for piece in (chopin, liszt)] == [
        root / "2004/a.midi",
        root / "2018/b.midi",
    ]
    found = check("MAESTRO", CorpusRoots(tmp_path))
    assert (found.pieces, found.performances, found.missing) == (2, 2, ())
    assert found.listed_not_present == ("2018/gone.midi",)
    assert "score" not in found.summary()


@pytest.mark.parametrize(
    "table",
    [None, b"\xff\xfe\x00", b"midi_filename\na.midi\n", TABLE.replace("train", "traim").encode()],
    ids=["missing", "binary", "columns", "split"],
)
def test_a_damaged_table_of_maestro_is_told(table: bytes | None, tmp_path: Path) -> None:
    root = touch(tmp_path / "maestro-v3.0.0", "2004/a.midi")
    if table is not None:
        (root / "maestro-v3.0.0.csv").write_bytes(table)
    with pytest.raises(InputError) as caught:
        discover("MAESTRO", CorpusRoots(tmp_path))
    assert caught.value.code == "corpus_unreadable"


def test_lakh_is_every_midi_file_and_versions_of_a_song_are_one_work(tmp_path: Path) -> None:
    touch(tmp_path / "lmd_full", "0/0a3d45.mid", "f/f00.MID", "Abba/Waterloo.1.mid", "Abba/Waterloo.mid", "x/notes.txt")
    pieces = {piece.key: piece for piece in discover("LAKH", CorpusRoots(tmp_path))}
    assert sorted(pieces) == ["0/0a3d45.mid", "Abba/Waterloo.1.mid", "Abba/Waterloo.mid", "f/f00.MID"]
    assert pieces["Abba/Waterloo.1.mid"].work == pieces["Abba/Waterloo.mid"].work == "lakh/Abba/Waterloo"
    assert pieces["0/0a3d45.mid"].work == "lakh/0/0a3d45"
    assert check("LAKH", CorpusRoots(tmp_path)).complete


def test_files_of_a_matched_song_are_one_work_wherever_else_they_are(tmp_path: Path) -> None:
    a, b, c, d = (letter * 32 for letter in "abcd")
    first, second, other = "TRAAAAA00000000001", "TRAAAAB00000000002", "TRBBBBB00000000003"
    root = tmp_path / "lmd_full"
    touch(root, *(f"A/A/A/{first}/{name}.mid" for name in (a, b)), f"A/A/B/{second}/{a}.mid", f"B/B/B/{other}/{c}.mid")
    touch(root, f"b/{b}.mid", f"d/{d}.mid")
    pieces = discover("LAKH", CorpusRoots(tmp_path))
    works = {piece.key.rpartition("/")[0]: piece.work for piece in pieces}
    assert len(pieces) == 6
    assert works[f"A/A/A/{first}"] == works[f"A/A/B/{second}"] == works["b"] == f"lakh/{first}"
    assert len(set(works.values())) == 3


def test_a_folder_holds_files_and_records(tmp_path: Path) -> None:
    touch(
        tmp_path, "deep/er/Chopin_op38.mid", "01.mid", "two/01.mid", "a.musicxml", "b.mxl", "c.xml", "d.match", "e.wav"
    )
    touch(tmp_path, "empty.tfrecord", ".hidden.mid")
    shutil.copy(HERE / "sequences.tfrecord.gz", tmp_path / "s.tfrecord-00000-of-00002.gz")
    (tmp_path / "noise.tfrecord").write_bytes(b"no records at all")
    pieces = {piece.key: piece for piece in discover("MIDI", CorpusRoots(data_root=tmp_path))}
    records = [f"s.tfrecord-00000-of-00002.gz#{number:06}" for number in range(3)]
    files = ["01.mid", "a.musicxml", "b.mxl", "c.xml", "deep/er/Chopin_op38.mid", "two/01.mid", "noise.tfrecord#000000"]
    assert sorted(pieces) == sorted([*files, *records])
    assert pieces["deep/er/Chopin_op38.mid"].work == "chopin/op-38"
    assert len({piece.work for piece in pieces.values()}) == len(pieces)
    (record,) = pieces[records[1]].performances
    assert record.key == records[1]
    assert record.performance == str(tmp_path / records[1])
    assert load_recording(record.performance)["pitch"].tolist() == [60, 62, 64, 65]
    assert digest_or_empty(record.performance) == digest_or_empty(str(tmp_path / "s.tfrecord-00000-of-00002.gz"))
    with pytest.raises(InputError, match="damaged"):
        load_recording(pieces["noise.tfrecord#000000"].performances[0].performance)


def test_a_folder_of_records_at_s3(moto_bucket: str) -> None:
    s3.put(join(moto_bucket, "in", "s.tfrecord"), (HERE / "sequences.tfrecord").read_bytes())
    first, *_ = discover("MIDI", CorpusRoots(data_root=join(moto_bucket, "in")))
    url = f"{moto_bucket}/in/s.tfrecord#000000"
    assert first.performances[0].performance == url
    copy_of(url).unlink()  # as on another machine
    place = first.fetched().performances[0].performance
    assert record_of(place) == (str(copy_of(url)), "#000000")
    assert len(load_recording(place)) == 120


@pytest.mark.parametrize("corpus", ALONE)
def test_where_a_corpus_that_is_missing_is_to_be_had(corpus: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--data(sets)?-root") as missing:
        discover(corpus, CorpusRoots(tmp_path))
    assert missing.value.code == "corpus_missing"
    with pytest.raises(InputError, match="root") as not_downloaded:
        download(corpus, CorpusRoots(tmp_path))
    assert not_downloaded.value.code == "download_unknown"


@pytest.mark.corpora
def test_real_folders_are_found_as_midi(corpora_root: Path) -> None:
    pieces = discover("MIDI", CorpusRoots(data_root=corpora_root / "vienna4x22"))
    assert sum(piece.key.startswith("midi/") for piece in pieces) >= 88
    assert {piece.composer for piece in pieces if piece.key.startswith("midi/")} == {"Chopin", "Mozart", "Schubert"}

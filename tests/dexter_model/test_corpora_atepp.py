"""ATEPP: a folder in its layout made of real performances, its works, and metadata of all kinds."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from atepp_folder import PIECES, write_align_csv, write_atepp, write_metadata

from dexter_model.corpora import discover
from dexter_model.corpora.atepp import named
from dexter_model.corpora.check import check
from dexter_model.corpora.download import download
from dexter_model.corpora.roots import CorpusRoots
from dexter_model.corpora.works import work_of
from dexter_model.dataset.encodings import Codecs
from dexter_model.dataset.piece import Piece, encode_piece
from dexter_model.dataset.plan import fingerprint, reason_to_run
from dexter_model.errors import InputError
from dexter_model.notes import Alignment
from dexter_model.reading.alignment import load_alignment
from dexter_model.reading.sandbox import Sandbox

HEADER = "artist,composer,score_path,midi_path\n"
NOCTURNE = "Frederic_Chopin/Nocturne_No._11_in_G_minor,_Op._37_No._1"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def real(corpora_root: Path, tmp_path_factory: pytest.TempPathFactory) -> CorpusRoots:
    """A datasets root whose ATEPP is made of Vienna's performances."""
    root = tmp_path_factory.mktemp("datasets")
    write_atepp(root / "ATEPP", corpora_root / "vienna4x22")
    return CorpusRoots(root)


def touched(root: Path, metadata: str | bytes, *files: str) -> CorpusRoots:
    base = root / "ATEPP"
    base.mkdir()
    (base / "ATEPP-metadata-1.2.csv").write_bytes(metadata if isinstance(metadata, bytes) else metadata.encode())
    for name in files:
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        (base / name).touch()
    return CorpusRoots(root)


# -- real performances


@pytest.mark.corpora
def test_the_folder_is_whole_and_its_works_are_those_of_other_corpora(real: CorpusRoots, corpora_root: Path) -> None:
    found = check("ATEPP", real)
    assert (found.pieces, found.performances, found.with_both) == (4, 8, 8)
    assert found.complete
    pieces = discover("ATEPP", real)
    vienna = discover("VIENNA422", CorpusRoots(corpora_root))
    assert {piece.work for piece in pieces} == {piece.work for piece in vienna}
    assert {piece.composer for piece in pieces} == {"Chopin", "Mozart", "Schubert"}
    etude = next(piece for piece in pieces if piece.work == "chopin/op-10/3")
    assert etude.key == "Frederic_Chopin/12_Études,_Op._10/No._3_in_E_Major"
    assert etude.title == "12 Études, Op. 10 – No. 3 in E Major"
    assert [p.performer for p in etude.performances] == ["Pianist 1", "Pianist 2"]


@pytest.mark.corpora
def test_its_codecs_are_those_of_the_match_files(real: CorpusRoots, corpora_root: Path, sandbox: Sandbox) -> None:
    vienna = {piece.work: piece for piece in discover("VIENNA422", CorpusRoots(corpora_root))}
    short = [piece for piece in discover("ATEPP", real) if piece.work in ("mozart/k-331/1", "schubert/d-783/15")]
    for source in short:
        piece, refused = encode_piece(source, sandbox, "none")
        two = replace(vienna[source.work], performances=vienna[source.work].performances[:2])
        other, _ = encode_piece(two, sandbox, "none")
        assert refused == []
        assert piece is not None
        assert other is not None
        assert_same(piece, other)


def assert_same(atepp: Piece, vienna: Piece) -> None:
    """The first performances of both: the same notes, and columns as near as MIDI ticks of 0.05 ms let them be."""
    rows = np.isin(vienna.note_id, atepp.note_id)
    np.testing.assert_array_equal(vienna.note_id[rows], atepp.note_id)
    assert [p["unknown_ids"] for p in atepp.performances] == [0, 0]
    for index in range(2):
        both = atepp.matched[index]
        np.testing.assert_array_equal(both, vienna.matched[index][rows])
        ours, theirs = atepp.performance[index][both], vienna.performance[index][rows][both]
        np.testing.assert_allclose(ours[:, 0], theirs[:, 0], atol=2e-3, rtol=2e-3)
        np.testing.assert_allclose(ours[:, 1], theirs[:, 1], atol=1e-6)
        np.testing.assert_allclose(ours[:, 2], theirs[:, 2], atol=2e-3)
        assert np.mean(np.abs(ours[:, 3] - theirs[:, 3]) < 0.02) > 0.99
        assert np.mean(np.abs(ours[:, 4] - theirs[:, 4]) < 0.02) > 0.99


@pytest.mark.corpora
def test_alignments_that_match_less_than_half_are_refused(corpora_root: Path, tmp_path: Path, sandbox: Sandbox) -> None:
    write_atepp(tmp_path / "ATEPP", corpora_root / "vienna4x22", (1, 2))
    source = next(piece for piece in discover("ATEPP", CorpusRoots(tmp_path)) if piece.work == "schubert/d-783/15")
    spoilt = Path(str(source.performances[0].alignment))
    alignment = load_alignment(spoilt)
    apart = np.arange(len(alignment.score_id)) % 3 > 0  # two of three matches become a deletion and an insertion
    nothing = np.full(apart.sum(), "")
    score_id = np.concatenate([alignment.score_id, nothing])
    performance_id = np.concatenate([np.where(apart, "", alignment.performance_id), alignment.performance_id[apart]])
    write_align_csv(spoilt, Alignment(score_id, performance_id))
    piece, [refused] = encode_piece(source, sandbox, "none")
    assert refused.code == "low_alignment_match_ratio"
    assert refused.performance == source.performances[0].key
    assert piece is not None
    assert [p["key"] for p in piece.performances] == [source.performances[1].key]


# -- layout


def test_only_what_is_listed_and_there_is_in_the_corpus(tmp_path: Path) -> None:
    metadata = HEADER + "".join(f'Artist {n},Frédéric Chopin,,"{NOCTURNE}/{n:05}.mid"\n' for n in (1, 2, 2, 4))
    files = [f"{NOCTURNE}/{n:05}.mid" for n in (1, 2, 3)]
    roots = touched(tmp_path, metadata, *files, f"{NOCTURNE}/00001/align.csv", f"{NOCTURNE}/score.xml")
    [piece] = discover("ATEPP", roots)
    assert [p.key for p in piece.performances] == files[:2]
    assert [p.alignment is not None for p in piece.performances] == [True, False]
    assert piece.work == "chopin/op-37/1"
    found = check("ATEPP", roots)
    assert (found.performances, found.with_score, found.with_both) == (2, 2, 1)
    assert found.listed_not_present == (f"{NOCTURNE}/00004.mid",)
    assert found.missing == (f"alignment of {NOCTURNE}/00002.mid",)


def test_the_score_is_the_one_that_is_told_or_the_only_one(tmp_path: Path) -> None:
    rows = "".join(f"A,C,{score},Composer_Name/{piece}/1.mid\n" for piece, score in [
        ("told", "Composer_Name/told/b.mxl"), ("two", ""), ("one", ""), ("gone", "Composer_Name/gone/x.mxl"),
        ("other", "Composer_Name/told/b.mxl"),
    ])  # fmt: skip
    files = [f"Composer_Name/{piece}/1.mid" for piece in ("told", "two", "one", "gone", "other")]
    scores = ["told/a.xml", "told/b.mxl", "two/a.xml", "two/b.musicxml", "one/a.MXL"]
    roots = touched(tmp_path, HEADER + rows, *files, *(f"Composer_Name/{score}" for score in scores))
    found = {piece.key.split("/")[1]: piece.score for piece in discover("ATEPP", roots)}
    assert {name: Path(score).name if score else None for name, score in found.items()} == {
        "told": "b.mxl",
        "two": None,
        "one": "a.MXL",
        "gone": None,
        "other": None,
    }


def test_the_newest_table_may_lie_above_the_folder_of_pieces(tmp_path: Path) -> None:
    base = tmp_path / "ATEPP"
    (base / "ATEPP-1.2" / "Erik_Satie" / "Gnossienne").mkdir(parents=True)
    (base / "ATEPP-1.2" / "Erik_Satie" / "Gnossienne" / "1.mid").touch()
    row = {"artist": "New", "midi_path": "Erik_Satie/Gnossienne/1.mid"}
    write_metadata(base / "ATEPP-metadata-1.10.csv", [row])
    write_metadata(base / "ATEPP-metadata-1.9.csv", [row | {"artist": "Old"}])
    [piece] = discover("ATEPP", CorpusRoots(tmp_path))
    assert piece.performances[0].performer == "New"
    assert (piece.composer, piece.title) == ("Satie", "Gnossienne")


def test_accents_may_be_spelled_otherwise_on_disk(tmp_path: Path) -> None:
    folder = "Frederic_Chopin/12_Études,_Op._10/No._4"
    metadata = f'{HEADER}A,C,"{folder}/s.xml","{folder}/1.mid"\n'
    decomposed = unicodedata.normalize("NFD", folder)
    assert decomposed != folder
    roots = touched(tmp_path, metadata, f"{decomposed}/1.mid", f"{decomposed}/s.xml", f"{decomposed}/t.xml")
    [piece] = discover("ATEPP", roots)
    assert piece.key == folder
    assert Path(str(piece.score)).is_file()
    assert Path(piece.performances[0].performance).is_file()
    assert check("ATEPP", roots).listed_not_present == ()


def test_what_the_table_says_of_recordings_goes_with_them(tmp_path: Path) -> None:
    said = ("", "Corrupted", "low quality", "high quality")
    rows = "".join(f"A,C,,{NOCTURNE.replace(',', '')}/{n}.mid,{quality}\n" for n, quality in enumerate(said))
    files = [f"{NOCTURNE.replace(',', '')}/{n}.mid" for n in range(4)]
    [piece] = discover("ATEPP", touched(tmp_path, "artist,composer,score_path,midi_path,quality\n" + rows, *files))
    assert [each.recording for each in piece.performances] == ["", "corrupted", "low quality", "high quality"]
    without = replace(piece, performances=tuple(replace(each, recording="") for each in piece.performances))
    reason = reason_to_run(fingerprint(piece, Codecs("none")), fingerprint(without, Codecs("none")))
    assert reason is not None
    assert reason.startswith(f"description of {files[1]} changed")


# -- hostile metadata


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../../outside.mid",
        "..\\outside.mid",
        "Frederic_Chopin/../../outside.mid",
        "\x00",
        "~/x.mid",
        " ",
    ],
)
def test_no_path_of_the_table_is_followed(path: str, tmp_path: Path) -> None:
    (tmp_path / "outside.mid").touch()
    metadata = f'{HEADER}A,C,"{path}","{path}"\nA,C,"{path}","Frederic_Chopin/x/1.mid"\n'
    roots = touched(tmp_path, metadata, "Frederic_Chopin/x/1.mid", "Frederic_Chopin/x/2.mid")
    [piece] = discover("ATEPP", roots)
    assert [p.key for p in piece.performances] == ["Frederic_Chopin/x/1.mid"]
    assert piece.score is None


@pytest.mark.parametrize(
    "metadata",
    [
        b"",
        b"\xff\xfe\x00binary",
        b"artist,composer,score_path\nA,B,C\n",
        HEADER.encode() + b"A,B,C," + b"x" * 200_000,
        HEADER.encode() + "Frédéric".encode("latin-1"),
    ],
    ids=["empty", "binary", "a column is missing", "a field without end", "not UTF-8"],
)
def test_a_damaged_table_is_one_clear_error(metadata: bytes, tmp_path: Path) -> None:
    roots = touched(tmp_path, metadata, "Frederic_Chopin/x/1.mid")
    for look in (discover, check):
        with pytest.raises(InputError) as caught:
            look("ATEPP", roots)
        assert caught.value.code == "corpus_unreadable"
        assert "ATEPP-metadata-1.2.csv" in str(caught.value)


def test_odd_tables_that_can_be_read(tmp_path: Path) -> None:
    metadata = "\ufeff" + HEADER + "\n,,,\nA\nA,B,C,Erik_Satie/x/1.mid,more,and more\n"
    [piece] = discover("ATEPP", touched(tmp_path, metadata, "Erik_Satie/x/1.mid"))
    assert piece.performances[0].performer == "A"


def test_a_missing_corpus_or_table_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="sent on request") as caught:
        discover("ATEPP", CorpusRoots(tmp_path))
    assert caught.value.code == "corpus_missing"
    (tmp_path / "ATEPP").mkdir()
    with pytest.raises(InputError) as caught:
        discover("ATEPP", CorpusRoots(tmp_path))
    assert caught.value.code == "corpus_unreadable"
    with pytest.raises(InputError, match="disclaimer") as caught:
        download("ATEPP", CorpusRoots(tmp_path))
    assert caught.value.code == "download_unknown"


# -- works


@pytest.mark.parametrize(
    ("folder", "work"),
    [
        ("Ludwig_van_Beethoven/Piano_Sonata_No._7_in_D_Major,_Op._10_No._3/IV._Rondo._Allegro", "piano-sonatas/7-4"),
        ("Ludwig_van_Beethoven/Piano_Sonata_No._21_in_C_major,_Op._53,_\"Waldstein\"/II._Introduzione:_Adagio_molto",
         "piano-sonatas/21-2"),
        ("Ludwig_van_Beethoven/Piano_Sonata_No.15_in_D,_Op.28_-\"Pastorale\"/4._Rondo", "piano-sonatas/15-4"),
        ("Ludwig_van_Beethoven/Piano_Sonata_No._31_in_A-Flat_Major,_Op._110/III._Adagio", "piano-sonatas/31-3-4"),
        ("Ludwig_van_Beethoven/Piano_Sonata_No._19_in_G_Minor,_Op._49,_No._1/II._Rondo._Allegro", "op-49/1/2"),
        ("Frederic_Chopin/12_Études,_Op._10/No._3_in_E_Major", "op-10/3"),
        ("Frederic_Chopin/Ballade_No._2_in_F_Major,_Op._38", "op-38"),
        ("Frederic_Chopin/Waltz_No.12_in_F_minor/A_flat,_Op.70_No.2", "op-70/2"),
        ("Frederic_Chopin/24_Préludes,_Op._28/No._13_in_F-Sharp_Major:_Lento", "op-28/13"),
        ("Frederic_Chopin/Prelude,_Op._28/No._13_in_F-Sharp_Major", "op-28/13"),
        ("Frederic_Chopin/Berceuse_in_D_flat,_Op._57", "op-57"),
        ("Wolfgang_Amadeus_Mozart/Piano_Sonata_No.12_in_F,_K.332/1._Allegro", "k-332/1"),
        ("Wolfgang_Amadeus_Mozart/Piano_Sonata_No._11_in_A_Major,_K._331/3._Alla_Turca._Allegretto", "k-331/3"),
        ("Franz_Schubert/6_Moments_musicaux,_Op.94_D.780/No.3_in_F_minor_(Allegro_moderato)", "moment-musical-no-3"),
        ("Franz_Schubert/Piano_Sonata_No.13_in_A,_D.664/1._Allegro_moderato", "d-664/1"),
        ("Franz_Joseph_Haydn/Piano_Sonata_in_C_Major,_Hob.XVI:48/48:_2._Rondo_(Presto)", "keyboard-sonatas/48-2"),
        ("Franz_Joseph_Haydn/Piano_Sonata_in_A_Flat_Major,_Hob._XVI:46/1._Allegro_moderato", "keyboard-sonatas/46-1"),
        ("Franz_Liszt/2_Etudes_de_Concert,_S.145/No.2_Gnomenreigen", "s-145/2"),
        ("Franz_Liszt/12_Etudes_d'exécution_transcendante,_S.139/No._5_Feux_follets_(Allegretto)",
         "transcendental-etudes/5"),
        ("Franz_Liszt/Années_de_pèlerinage,_2nd_Year,_S._162_\"Italy_Supplement\"/No._1._Gondoliera_(Gondolier's_Song)",
         "annees-de-pelerinage-2/1-gondoliera"),
        ("Franz_Liszt/Mephisto_Waltz_No._1,_S.514", "mephisto-waltz"),
        ("Franz_Liszt/Piano_Sonata_in_B_Minor,_S._178", "sonata"),
        ("Robert_Schumann/Arabeske,_Op._18", "arabeske"),
        ("Robert_Schumann/Toccata_in_C_Major,_Op._7", "toccata"),
        ("Robert_Schumann/Kreisleriana,_Op._16/VII._Sehr_rasch", "kreisleriana/7"),
        ("Sergei_Rachmaninoff/13_Preludes,_Op._32/No._10_in_B_Minor:_Lento", "op-32/10"),
        ("Johann_Sebastian_Bach/The_Well-Tempered_Clavier,_Book_I/No._9_in_E_Major,_BWV_854:_Prelude", "bwv-854"),
        ("Johann_Sebastian_Bach/Das_Wohltemperierte_Klavier_Book2/Book_2,_BWV_870-893:_Fugue_in_C_sharp_minor_BWV_873",
         "bwv-873"),
        ("Johann_Sebastian_Bach/Partita_No._5_In_G_Major,_BWV_829/5._Tempo_di_minuetto", "bwv-829/5"),
        ("Maurice_Ravel/Miroirs,_M._43/No._4,_Alborada_del_gracioso", "miroirs/4-alborada-del-gracioso"),
        ("Maurice_Ravel/Gaspard_de_la_nuit,_M.55/Ondine", "gaspard-de-la-nuit/1-ondine"),
        ("Maurice_Ravel/Pavane_pour_une_infante_défunte,_M._19", "pavane"),
        ("Claude_Debussy/Images,_Book_1,_L._110/No._1,_Reflets_dans_l'eau", "images-book-1/1-reflets-dans-leau"),
        ("Alexander_Scriabin/12_Etudes,_Op._8/No._11_in_B-Flat_Minor", "op-8/11"),
        ("Alexander_Scriabin/Piano_Sonata_No._5,_Op._53", "sonatas/5"),
    ],
)  # fmt: skip
def test_atepps_folders_are_the_works_of_asap(folder: str, work: str) -> None:
    composer, name = named(folder)
    assert work_of("ATEPP", folder, composer, name) == f"{folder.partition('/')[0].split('_')[-1].lower()}/{work}"


def test_the_pieces_of_the_small_folder_are_viennas() -> None:
    for piece, (folder, _, _) in PIECES.items():
        composer, _, name = piece.partition("_")
        assert work_of("ATEPP", folder, *named(folder)) == work_of("VIENNA422", piece, composer, name)

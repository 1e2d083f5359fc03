"""The table of works: every piece of the known corpora is in it, and no work stands on two sides of a split."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from atepp_folder import PIECES, write_metadata

from dexter_model.corpora import discover
from dexter_model.corpora.atepp import atepp
from dexter_model.corpora.books import asap_listed
from dexter_model.corpora.roots import CorpusRoots
from dexter_model.corpora.works import table, work_id, work_of
from dexter_model.dataset.splits import split_of_works
from dexter_model.digests import file_digest

DEMO_K545 = "synthetic/mozart_k545_movement1_exposition"
# Of Vienna and (n)ASAP as they lie in the public repositories; a model that was published was tested on these.
TESTED = {
    "bach/bwv-846", "bach/bwv-857", "bach/bwv-862", "bach/bwv-867", "beethoven/piano-sonatas/10-1",
    "beethoven/piano-sonatas/14-3", "beethoven/piano-sonatas/17-2", "beethoven/piano-sonatas/21-2",
    "beethoven/piano-sonatas/26-3", "beethoven/piano-sonatas/27-1", "beethoven/piano-sonatas/29-3",
    "beethoven/piano-sonatas/4-1", "beethoven/piano-sonatas/7-1", "beethoven/piano-sonatas/9-2", "chopin/op-10/5",
    "chopin/op-25/11", "chopin/op-25/2", "chopin/op-38", "chopin/op-53", "chopin/sonata-2/3rd", "chopin/sonata-3/3rd",
    "liszt/s-145/2", "mozart/k-331/1", "mozart/k-331/3", "mozart/k-332/2", "schubert/d-783/15", "schubert/op-90/4",
    "schumann/kreisleriana/3",
}  # fmt: skip


def works(corpus: str) -> dict[str, str]:
    """Works by key, as the table has them."""
    return {line.key: line.work for line in table() if line.corpus == corpus and "*" not in line.key}


def test_the_table_is_sound() -> None:
    lines = table()
    assert len({(line.corpus, line.key) for line in lines}) == len(lines)
    assert Counter(line.corpus for line in lines) == {"ASAP": 242, "VIENNA422": 4, "ATEPP": 2}
    for line in lines:
        assert re.fullmatch(r"[a-z-]+(/[\w-]+)+", line.work)
        assert line.work.split("/")[0] == line.composer.lower()
        assert re.fullmatch(r"((op|BWV|D|S|K|M|L|Hob)\. (XVI:)?\d+a?( no\. \d+)?|BWV \d+)?", line.catalogue)


def test_the_ids_of_the_table_are_those_that_data_sets_were_split_by() -> None:
    for line in table():
        if line.corpus == "ASAP":
            composer, _, name = line.key.partition("/")
            assert line.work == work_id(composer, name)
        elif line.corpus == "VIENNA422":
            composer, _, name = line.key.partition("_")
            assert line.work == work_id(composer, name)


def test_one_work_has_one_catalogue_number_and_the_other_way_round() -> None:
    numbers: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    of_number: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for line in table():
        number = line.composer, line.catalogue, line.movement
        numbers[line.work].add(number)
        of_number[number].add(line.work)
    assert all(len(found) == 1 for found in numbers.values())
    assert all(len(found) == 1 for found in of_number.values())


def test_twins_and_duplicates_are_one_work() -> None:
    asap, vienna = works("ASAP"), works("VIENNA422")
    assert asap["Beethoven/Piano_Sonatas/24-1"] == asap["Beethoven/Piano_Sonatas/24-1_no_2_repeat"]
    assert asap["Bach/Prelude/bwv_846"] == asap["Bach/Fugue/bwv_846"]
    assert vienna["Chopin_op38"] == asap["Chopin/Ballades/2"]
    assert vienna["Chopin_op10_no3"] == asap["Chopin/Etudes_op_10/3"]
    assert vienna["Mozart_K331_1st-mov"] not in asap.values()  # ASAP has the third movement
    assert vienna["Schubert_D783_no15"] not in asap.values()


def test_works_are_known_by_catalogue_number_in_other_corpora() -> None:
    assert work_of("FOLDER", "x", "Beethoven", "op31_no2_mvt3") == "beethoven/piano-sonatas/17-3"
    assert work_of("FOLDER", "x", "Liszt", "Transcendental Etudes S. 139/4 Mazeppa") == "liszt/transcendental-etudes/4"
    assert work_of("FOLDER", "x", "Chopin", "Barcarolle op. 60") == "chopin/barcarolle"
    assert work_of("FOLDER", "x", "Bach", "BWV_971_2") == "bach/italian-concerto"
    assert work_of("FOLDER", "x", "Bach", "BWV_971_1") == "bach/bwv-971/1"
    assert work_of("FOLDER", "x", "Schubert", "Impromptu D 935 no 2") == "schubert/op-142/2"
    assert work_of("FOLDER", "x", "Schubert", "Fantasy op. 159") == "schubert/op-159"
    assert work_of("FOLDER", "x", "Someone", "My piece") == "someone/my-piece"


def test_no_work_of_the_table_stands_on_two_sides_and_the_tested_ones_stay() -> None:
    on_disk = {line.work for line in table() if line.corpus != "ATEPP"} - {
        line.work
        for line in table()
        if line.composer in ("Balakirev", "Brahms", "Debussy", "Glinka", "Prokofiev", "Ravel", "Scriabin")
    }
    splits = split_of_works(line.work for line in table())
    assert {work for work in on_disk if splits[work] == "test"} == TESTED
    share = sum(split == "test" for split in splits.values()) / len(splits)
    assert 0.13 < share < 0.21
    assert 0.14 < len(TESTED) / len(on_disk) < 0.16  # asked for
    sides = defaultdict(set)
    for line in table():
        sides[line.composer, line.catalogue, line.movement].add(splits[line.work])
    assert all(len(found) == 1 for found in sides.values())


@pytest.mark.corpora
def test_every_piece_of_vienna_and_asap_is_in_the_table(corpora_root: Path) -> None:
    asap, vienna = works("ASAP"), works("VIENNA422")
    roots = CorpusRoots(corpora_root)
    found = {piece.key: piece.work for piece in discover("ASAP", roots)}
    assert found.items() <= asap.items()
    assert {key.rpartition("/")[0] for key in asap_listed(roots.folder("ASAP"))} | found.keys() == asap.keys()
    assert {piece.key: piece.work for piece in discover("VIENNA422", roots)} == vienna


# The same music in ATEPP's folders and in other corpora.
SAME = {folder: ("VIENNA422", piece) for piece, (folder, _, _) in PIECES.items()} | {
    "Frederic_Chopin/Ballade_No._2_in_F_Major,_Op._38": ("ASAP", "Chopin/Ballades/2"),
    "Frederic_Chopin/Etudes,_Op._10/No._3": ("ASAP", "Chopin/Etudes_op_10/3"),
    "Johann_Sebastian_Bach/The_Well-Tempered_Clavier,_Book_I/No._1,_BWV_846:_Fugue": ("ASAP", "Bach/Prelude/bwv_846"),
    "Johann_Sebastian_Bach/Well-Tempered_Clavier/BWV_846": ("MUSIC21", "bach/bwv846.mxl"),
    "Johann_Sebastian_Bach/Chorales/BWV_66/6._Chorale": ("DEMO", "synthetic/bach_bwv66.6"),
    "Ludwig_van_Beethoven/Piano_Sonata_No._17,_Op._31_No._2/III._Allegretto": ("ASAP", "Beethoven/Piano_Sonatas/17-3"),
    "Wolfgang_Amadeus_Mozart/Piano_Sonata_No._16,_K._545/1._Allegro": ("DEMO", DEMO_K545),
    "Wolfgang_Amadeus_Mozart/Variations,_K._265/1": ("DEMO", "mozart_k265_var1"),
    "Robert_Schumann/Kreisleriana,_Op._16/III._Sehr_aufgeregt": ("ASAP", "Schumann/Kreisleriana/3"),
}


@pytest.mark.corpora
def test_no_work_stands_on_two_sides_over_all_corpora(corpora_root: Path, tmp_path: Path) -> None:
    write_metadata(tmp_path / "ATEPP-metadata-1.2.csv", [{"midi_path": f"{folder}/1.mid"} for folder in SAME])
    for folder in SAME:
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "1.mid").touch()
    roots = CorpusRoots(corpora_root, data_root=corpora_root / "vienna4x22")
    corpora = ("VIENNA422", "ASAP", "FOLDER", "MUSIC21", "DEMO")
    pieces = [piece for corpus in corpora for piece in discover(corpus, roots)] + atepp(tmp_path)
    splits = split_of_works(piece.work for piece in pieces)
    aligned = {piece.work for piece in pieces if piece.corpus in ("VIENNA422", "ASAP")}
    assert {work for work in aligned if splits[work] == "test"} == TESTED
    prelude, fugue = ("Prelude", "Fugue")
    by_key = {(piece.corpus, piece.key): splits[piece.work] for piece in pieces}
    work = {(piece.corpus, piece.key): piece.work for piece in pieces}
    assert {folder: work["ATEPP", folder] for folder in SAME} == {folder: work[other] for folder, other in SAME.items()}
    by_score = defaultdict(set)
    for piece in pieces:
        by_score[file_digest(piece.score) if piece.score else piece.key].add(splits[piece.work])
    assert all(len(sides) == 1 for sides in by_score.values())
    for number in (846, 857, 862):
        assert by_key["ASAP", f"Bach/{prelude}/bwv_{number}"] == by_key["ASAP", f"Bach/{fugue}/bwv_{number}"] == "test"
    assert by_key["MUSIC21", "bach/bwv846.mxl"] == by_key["DEMO", "synthetic/bach_bwv846"] == "test"
    assert by_key["VIENNA422", "Chopin_op38"] == by_key["ASAP", "Chopin/Ballades/2"] == "test"
    assert by_key["VIENNA422", "Schubert_D783_no15"] == "test"

"""Corpora: what is discovered in the real ones and in folders of all kinds, where they are looked for, downloads."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from dexter_model.corpora import CORPORA, discover, layouts
from dexter_model.corpora.check import check, listed_not_present
from dexter_model.corpora.roots import CorpusRoots
from dexter_model.corpora.works import ALIASES, work_id
from dexter_model.errors import InputError


@pytest.fixture(autouse=True)
def _no_roots(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """What the user's environment says does not matter here; ``corpora_root`` has read it already."""
    if "corpora_root" in request.fixturenames:
        request.getfixturevalue("corpora_root")
    for variable in ("DEXTER_DATASETS_ROOT", "DEXTER_DATA_ROOT"):
        monkeypatch.delenv(variable, raising=False)


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


# -- the real corpora


@pytest.mark.corpora
def test_vienna_is_whole(corpora_root: Path) -> None:
    found = check("VIENNA422", CorpusRoots(corpora_root))
    assert (found.pieces, found.performances, found.with_both) == (4, 88, 88)
    assert found.complete
    pieces = discover("VIENNA422", CorpusRoots(corpora_root))
    assert [piece.work for piece in pieces] == ["chopin/op-10/3", "chopin/op-38", "mozart/k-331/1", "schubert/d-783/15"]
    assert pieces[1].performances[0].key == "match/Chopin_op38_p01.match"
    assert pieces[1].performances[0].performer == "p01"
    assert all(len(piece.performances) == 22 and Path(str(piece.score)).is_file() for piece in pieces)


@pytest.mark.corpora
def test_asap_is_as_its_books_say(corpora_root: Path) -> None:
    found = check("ASAP", CorpusRoots(corpora_root))
    assert found.performances == 1007
    assert found.with_both == 980
    assert found.performances - found.with_score == 24
    assert found.performances - found.with_alignment == 3
    assert len(found.listed_not_present) == 59
    assert "alignment of Beethoven/Piano_Sonatas/29-4/DANILO01.mid" in found.missing
    assert "score of Liszt/Sonata (7 performances)" in found.missing
    assert not found.complete
    assert "1007 performances" in found.summary()


@pytest.mark.corpora
def test_every_work_of_asap_is_one_in_all_forms_and_corpora(corpora_root: Path) -> None:
    pieces = {piece.key: piece.work for piece in discover("ASAP", CorpusRoots(corpora_root))}
    twins = [key for key in pieces if key.endswith(("repeat", "_no_trio"))]
    assert len(twins) == 24
    for key in twins:
        plain = re.sub("_(no|no_first|no_2|extra)_repeat$|_repeat$|_no_trio$", "", key)
        assert pieces[key] == pieces.get(plain, pieces[key])
        assert "repeat" not in pieces[key]
    assert len(pieces) == 230
    assert len(set(pieces.values())) == 230 - 21 - 29  # twins; preludes and fugues share a BWV number
    assert pieces["Chopin/Ballades/2"] == "chopin/op-38"
    assert pieces["Chopin/Etudes_op_10/3"] == "chopin/op-10/3"


@pytest.mark.corpora
def test_keys_are_sorted_unique_and_relative(corpora_root: Path) -> None:
    for corpus in ("VIENNA422", "ASAP"):
        pieces = discover(corpus, CorpusRoots(corpora_root))
        keys = [performance.key for piece in pieces for performance in piece.performances]
        assert len(set(keys)) == len(keys)
        assert [piece.key for piece in pieces] == sorted(piece.key for piece in pieces)
        assert not any(key.startswith("/") or "average" in key or key.endswith("midi_score.mid") for key in keys)


# -- works


@pytest.mark.parametrize(
    ("composer", "name", "work"),
    [
        ("Chopin", "Etudes_op_10/3", "chopin/op-10/3"),
        ("Chopin", "op10_no3", "chopin/op-10/3"),
        ("Chopin", "Ballades/2", "chopin/op-38"),
        ("Chopin", "op38", "chopin/op-38"),
        ("Chopin", "Scherzos/31", "chopin/op-31"),
        ("Mozart", "K331_1st-mov", "mozart/k-331/1"),
        ("Mozart", "Piano_Sonatas/11-1", "mozart/k-331/1"),
        ("Mozart", "Piano_Sonatas/11-3", "mozart/k-331/3"),
        ("Schubert", "Impromptu_op.90_D.899/4_no_repeat", "schubert/op-90/4"),
        ("Schubert", "Impromptu_op.90_D.899/4", "schubert/op-90/4"),
        ("Schubert", "D783_no15", "schubert/d-783/15"),
        ("Liszt", "Gran_Etudes/6_Theme_and_Variations_repeat", "liszt/gran-etudes/6-theme-and-variations"),
        ("Bach", "Prelude/bwv_846", "bach/bwv-846"),
        ("Bach", "bwv846", "bach/bwv-846"),
        ("Bach", "Italian_concerto", "bach/italian-concerto"),
        ("Beethoven", "Piano_Sonatas/24-1_no_2_repeat", "beethoven/piano-sonatas/24-1"),
        ("Clara Schumann", "polonaise_op1n2", "clara-schumann/op-1/2"),
        ("", "My own étude", "my-own-étude"),
    ],
)  # fmt: skip
def test_work_ids(composer: str, name: str, work: str) -> None:
    assert work_id(composer, name) == work


def test_no_alias_hides_another() -> None:
    assert not [(one, other) for one in ALIASES for other in ALIASES if one != other and one.startswith(other)]


# -- MUSIC21


def test_music21_scores_are_found_without_importing_the_package() -> None:
    program = (
        "import sys; from dexter_model.corpora import discover; from dexter_model.corpora.roots import CorpusRoots\n"
        "keys = [piece.key for piece in discover('MUSIC21', CorpusRoots())]\n"
        "print(len(keys), sum(key.startswith('bach/') for key in keys))\n"
        "print(sorted({'music21', 'partitura', 'torch', 'prefect', 'ray'} & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    pieces, bach = map(int, told[0].split())
    assert bach >= 408
    assert pieces > bach + 50
    assert told[1] == "[]"


def test_music21_has_no_performance_and_only_scores_that_may_be_shared() -> None:
    pieces = discover("MUSIC21", CorpusRoots())
    assert not any(piece.performances for piece in pieces)
    assert all(Path(str(piece.score)).is_file() for piece in pieces)
    assert not {"leadSheet", "monteverdi", "trecento", "demos"} & {piece.key.split("/")[0] for piece in pieces}


# -- layouts by hand


def test_vienna_layout_with_averages_strangers_and_a_lacking_score(tmp_path: Path) -> None:
    root = tmp_path / "vienna4x22"
    touch(
        root,
        "match/Chopin_op38_p01.match",
        "match/Chopin_op38_p23-average.match",
        "match/notes.txt",
        "match/.x_p1.match",
    )
    (piece,) = discover("VIENNA422", CorpusRoots(tmp_path))
    assert [performance.key for performance in piece.performances] == ["match/Chopin_op38_p01.match"]
    assert piece.score is None
    found = check("VIENNA422", CorpusRoots(tmp_path))
    assert found.missing == ("score of Chopin_op38 (1 performances)",)
    assert len(found.listed_not_present) == 87


def test_asap_layout_prefers_tsv_to_match_to_nothing(tmp_path: Path) -> None:
    root, piece = tmp_path / "asap-dataset", "Chopin/Etudes_op_10/3"
    touch(root, f"{piece}/xml_score.musicxml", f"{piece}/midi_score.mid", f"{piece}/parangonada/x.csv")
    touch(root, f"{piece}/A01.mid", f"{piece}/A01.match", f"{piece}/A01_note_alignments/note_alignment.tsv")
    touch(root, f"{piece}/Na_2009_02.mid", f"{piece}/Na_2009_02.match", f"{piece}/C03M.mid")
    (found,) = discover("ASAP", CorpusRoots(tmp_path))
    both, match_only, neither = sorted(found.performances, key=lambda p: "ANC".index(p.performer[0]))
    assert both.performance.endswith("A01.mid")
    assert str(both.alignment).endswith("A01_note_alignments/note_alignment.tsv")
    assert match_only.performance.endswith("Na_2009_02.match")
    assert match_only.key == f"{piece}/Na_2009_02.mid"
    assert match_only.alignment is None
    assert match_only.performer == "Na"
    assert neither.alignment is None
    assert neither.performance.endswith("C03M.mid")
    found_check = check("ASAP", CorpusRoots(tmp_path))
    assert (found_check.with_alignment, found_check.with_score) == (2, 3)
    assert listed_not_present("ASAP", CorpusRoots(tmp_path)) == []


ASAP_BOOKS = "midi_performance,robust_note_alignment\nC/x/A1.mid,1.0\nC/x/A2.mid,0.0\nC/x/A3.mid,\nC/x/A4.mid,1\n"


def test_only_robust_alignments_of_asap_are_asked_for(tmp_path: Path) -> None:
    root = touch(tmp_path / "asap-dataset", "C/x/xml_score.musicxml", *(f"C/x/A{n}.mid" for n in range(1, 7)))
    touch(root, *(f"C/x/A{n}.match" for n in (1, 2, 3, 5)))  # A5 is not in the books, A4 and A6 are not aligned
    (root / "metadata.csv").write_text(ASAP_BOOKS)
    roots = CorpusRoots(tmp_path)
    [piece] = discover("ASAP", roots, robust_only=True)
    assert [performance.robust for performance in piece.performances] == [True, False, False, True, False, True]
    [piece] = discover("ASAP", roots)
    assert all(performance.robust for performance in piece.performances)
    found = check("ASAP", roots, robust_only=True)
    assert (found.performances, found.with_alignment, found.not_robust) == (6, 1, 3)
    assert found.missing == ("alignment of C/x/A4.mid", "alignment of C/x/A6.mid")


@pytest.mark.parametrize("books", [None, b"", b"midi_performance\nC/x/A1.mid\n", b"\xff\xfe"])
def test_without_the_books_no_alignment_is_known_to_be_robust(books: bytes | None, tmp_path: Path) -> None:
    root = touch(tmp_path / "asap-dataset", "C/x/A1.mid")
    if books is not None:
        (root / "metadata.csv").write_bytes(books)
    assert len(discover("ASAP", CorpusRoots(tmp_path))) == 1
    with pytest.raises(InputError) as caught:
        discover("ASAP", CorpusRoots(tmp_path), robust_only=True)
    assert caught.value.code == "corpus_unreadable"


def test_folder_pairs_match_files_with_their_scores(tmp_path: Path) -> None:
    touch(tmp_path, "scores/Chopin_op38.musicxml", "match/Chopin_op38_p01.match", "match/Chopin_op38_p02.match")
    touch(tmp_path, "scores/Chopin_op3.mxl")  # no prefix of op38 at a word's end
    touch(tmp_path, "one/score.xml", "one/take1.match", "one/take2.match")
    touch(tmp_path, "two/a.mei", "two/a.match", "two/b.match")  # b is not a's
    touch(tmp_path, "alone.match", ".git/x.match")
    pieces = {piece.key: piece for piece in discover("FOLDER", CorpusRoots(data_root=tmp_path))}
    assert set(pieces) == {"scores/Chopin_op38.musicxml", "one/score.xml", "two/a.mei", "two/b.match", "alone.match"}
    ballade = pieces["scores/Chopin_op38.musicxml"]
    assert [(p.key, p.performer) for p in ballade.performances] == [
        ("match/Chopin_op38_p01.match", "p01"),
        ("match/Chopin_op38_p02.match", "p02"),
    ]
    assert ballade.work == "chopin/op-38"
    assert len(pieces["one/score.xml"].performances) == 2
    assert pieces["two/b.match"].score == pieces["two/b.match"].performances[0].performance
    assert check("FOLDER", CorpusRoots(data_root=tmp_path)).complete


def test_files_of_a_relative_folder_are_found_from_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "mine/A_1.match", "mine/A.mei", "vienna/match/A_p01.match", "asap/C/x/xml_score.musicxml")
    touch(tmp_path, "asap/C/x/P1.mid", "asap/C/x/P1.match")
    monkeypatch.chdir(tmp_path)
    for piece in (*layouts.folder(Path("mine")), *layouts.vienna(Path("vienna")), *layouts.asap(Path("asap"))):
        [performance] = piece.performances
        for path in filter(None, (piece.score, performance.performance)):
            assert Path(path).is_relative_to(tmp_path)


def test_the_longest_name_wins_and_the_own_folder_before_others(tmp_path: Path) -> None:
    touch(tmp_path, "a/Op_1.mei", "a/Op_1_b.mei", "b/Op.mei", "c/Op_1.xml", "c/Op_1.krn")
    touch(tmp_path, "a/Op_1_b_x.match", "a/Op_1_c.match", "b/Op_1_b.match", "d/Op_1-x.match", "d/Op_12.match")
    pieces = layouts.folder(tmp_path)
    assert {p.key: (piece.key, p.performer) for piece in pieces for p in piece.performances} == {
        "a/Op_1_b_x.match": ("a/Op_1_b.mei", "x"),
        "a/Op_1_c.match": ("a/Op_1.mei", "c"),
        "b/Op_1_b.match": ("b/Op.mei", "1_b"),
        "d/Op_1-x.match": ("c/Op_1.xml", "x"),
        "d/Op_12.match": ("b/Op.mei", "12"),
    }


@pytest.mark.corpora
def test_folder_of_real_files(corpora_root: Path) -> None:
    pieces = discover("FOLDER", CorpusRoots(data_root=corpora_root / "vienna4x22"))
    vienna = discover("VIENNA422", CorpusRoots(corpora_root))
    assert [len(piece.performances) for piece in pieces] == [22] * 4
    assert [(piece.work, piece.score) for piece in pieces] == [(piece.work, piece.score) for piece in vienna]


# -- roots


def test_command_line_before_environment_before_yaml_before_public_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("cli/vienna4x22", "env/vienna4x22", "yaml/mine", "cli/mine"):
        touch(tmp_path, f"{name}/match/A_p01.match")
    config = tmp_path / "corpora.yaml"
    config.write_text(f"datasets_root: {tmp_path / 'yaml'}\nsubpaths: {{VIENNA422: mine}}\n")
    assert CorpusRoots(config=config).folder("VIENNA422") == tmp_path / "yaml" / "mine"
    assert CorpusRoots(tmp_path / "cli", config=config).folder("VIENNA422") == tmp_path / "cli" / "mine"
    monkeypatch.setenv("DEXTER_DATASETS_ROOT", str(tmp_path / "env"))
    assert CorpusRoots(config=tmp_path / "none").folder("VIENNA422") == tmp_path / "env" / "vienna4x22"
    assert CorpusRoots(tmp_path / "cli").folder("VIENNA422") == tmp_path / "cli" / "vienna4x22"
    monkeypatch.setenv("DEXTER_DATA_ROOT", str(tmp_path / "env"))
    assert CorpusRoots().folder("FOLDER") == tmp_path / "env"
    assert CorpusRoots(data_root=tmp_path / "cli").folder("FOLDER") == tmp_path / "cli"


def test_the_yaml_in_the_repository_says_what_the_code_says() -> None:
    import yaml

    from dexter_model.corpora.roots import CONFIG, SUBPATHS

    assert yaml.safe_load(CONFIG.read_text()) == {"datasets_root": None, "data_root": None, "subpaths": SUBPATHS}


@pytest.mark.parametrize("corpus", ["VIENNA422", "ASAP"])
def test_a_missing_corpus_is_told_with_folder_and_remedy(corpus: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"dexter corpora download {corpus}") as caught:
        discover(corpus, CorpusRoots(tmp_path))
    assert caught.value.code == "corpus_missing"
    assert str(tmp_path) in str(caught.value)


def test_hostile_roots(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty" / "asap-dataset").mkdir(parents=True)
    loop = tmp_path / "loop"
    loop.mkdir()
    (loop / "asap-dataset").symlink_to(loop / "asap-dataset")
    cases = [
        ("ASAP", CorpusRoots(), "corpus_missing"),
        ("FOLDER", CorpusRoots(), "corpus_missing"),
        ("ASAP", CorpusRoots(tmp_path / "file"), "corpus_missing"),
        ("FOLDER", CorpusRoots(data_root=tmp_path / "file"), "corpus_missing"),
        ("ASAP", CorpusRoots(loop), "corpus_missing"),
        ("ASAP", CorpusRoots(tmp_path / "empty"), "corpus_empty"),
        ("FOLDER", CorpusRoots(data_root=tmp_path / "empty"), "corpus_empty"),
        ("VIENNA", CorpusRoots(tmp_path), "corpus_unknown"),
    ]
    for corpus, roots, code in cases:
        with pytest.raises(InputError) as caught:
            discover(corpus, roots)
        assert caught.value.code == code


def test_a_folder_that_contains_itself_and_names_that_are_no_text(tmp_path: Path) -> None:
    touch(tmp_path, "sub/A_1.match")
    (tmp_path / "sub" / "again").symlink_to(tmp_path)
    (tmp_path / "sub" / "gone.match").symlink_to(tmp_path / "nowhere")
    odd = b"C\xff_\xfe".decode("utf-8", "surrogateescape")
    touch(tmp_path, f"{odd}.mei", f"{odd}_p\udcff.match")
    touch(tmp_path, f"vienna4x22/match/{odd}_p01.match")
    touch(tmp_path, f"asap-dataset/{odd}/x/xml_score.musicxml", f"asap-dataset/{odd}/x/{odd}01.mid")
    roots = CorpusRoots(tmp_path, data_root=tmp_path)
    pieces = [piece for corpus in ("FOLDER", "VIENNA422", "ASAP") for piece in discover(corpus, roots)]
    assert len([p for piece in pieces for p in piece.performances]) == 4 + 1 + 1
    for piece in pieces:
        names = [name for p in piece.performances for name in (p.key, p.performer)]
        text = "".join([piece.key, piece.work, piece.composer, piece.title, *names])
        assert text.encode().decode() == text


@pytest.mark.parametrize("text", ["[", "- a\n- b", "subpaths: 3", "\x00"])
def test_a_broken_yaml_file_is_told(text: str, tmp_path: Path) -> None:
    config = tmp_path / "corpora.yaml"
    config.write_text(text)
    with pytest.raises(InputError) as caught:
        CorpusRoots(config=config).folder("ASAP")
    assert caught.value.code == "config_invalid"


def test_every_corpus_is_described() -> None:
    assert set(CORPORA) == {"VIENNA422", "ASAP", "ATEPP", "FOLDER", "MUSIC21", "DEMO", "MAESTRO", "LAKH", "MIDI"}
    assert all(len(description) > 40 for description in CORPORA.values())

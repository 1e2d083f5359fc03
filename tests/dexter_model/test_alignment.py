"""ASAP's and parangonada's alignment tables, and whether their ids ask for an unfolded score."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dexter_model.errors import InputError
from dexter_model.notes import SCORE_NOTE, Alignment, Score
from dexter_model.reading.alignment import load_alignment, needs_unfolding, score_as_aligned

HEADER = "xml_id\tmidi_id\ttrack\tchannel\tpitch\tonset\n"
PARANGONADA = "idx,matchtype,partid,ppartid\n"


def table(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "note_alignment.tsv"
    path.write_text(text)
    return path


def of_ids(*score_ids: str) -> Alignment:
    return Alignment(np.array(score_ids), np.array(["n0"] * len(score_ids)))


def score_of(*note_ids: str) -> Score:
    return Score(np.array(note_ids), np.zeros(len(note_ids), SCORE_NOTE))


def test_matches_deletions_and_insertions_in_the_order_of_the_file(tmp_path: Path) -> None:
    lines = "n19-1\tn5\t0\t0\t55\t2.75\nn2-1\tdeletion\ninsertion\tn7\t0\t0\t60\t3.1\nn19-1\tn8\t0\t0\t55\t4\n"
    alignment = load_alignment(table(tmp_path, HEADER + lines))
    assert alignment.score_id.tolist() == ["n19-1", "n2-1", "", "n19-1"]
    assert alignment.performance_id.tolist() == ["n5", "", "n7", "n8"]


def test_only_the_two_id_columns_matter(tmp_path: Path) -> None:
    alignment = load_alignment(table(tmp_path, "midi_id\txml_id\nn1\tn2-1\n"))
    assert (alignment.score_id.tolist(), alignment.performance_id.tolist()) == (["n2-1"], ["n1"])


@pytest.mark.parametrize(
    ("text", "reason"),
    [("", "columns"), ("a\tb\nn1\tn2\n", "columns"), (HEADER, "no line"), (HEADER + "n1-1\n", "lacks its ids")],
)
def test_other_files_are_refused(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        load_alignment(table(tmp_path, text))
    assert caught.value.code == "alignment_unreadable"


def test_parangonadas_table_says_the_same(tmp_path: Path) -> None:
    lines = "0,0,n19-1,n5\n1,1,n2-1,undefined\n2,2,undefined,n7\n3,0,n19-1,n8\n"
    alignment = load_alignment(table(tmp_path, PARANGONADA + lines))
    assert alignment.score_id.tolist() == ["n19-1", "n2-1", "", "n19-1"]
    assert alignment.performance_id.tolist() == ["n5", "", "n7", "n8"]
    quoted = '"ppartid", "partid", "matchtype"\r\n"n7", "n1", "0"\r\n\r\n"", "n2", "1"\r\n'
    alignment = load_alignment(table(tmp_path, quoted))
    assert (alignment.score_id.tolist(), alignment.performance_id.tolist()) == (["n1", "n2"], ["n7", ""])


def test_parangonadas_table_is_read_as_partitura_reads_it(tmp_path: Path) -> None:
    from partitura.io.importparangonada import load_parangonada_alignment

    lines = [
        f"{i},{i % 3},{'undefined' if i % 3 == 2 else f'n{i}'},{'undefined' if i % 3 == 1 else f'n{i}'}"
        for i in range(30)
    ]
    path = table(tmp_path, PARANGONADA + "\n".join(lines) + "\n")
    pairs = load_parangonada_alignment(str(path))
    alignment = load_alignment(path)
    assert alignment.score_id.tolist() == [str(pair.get("score_id", "")) for pair in pairs]
    assert alignment.performance_id.tolist() == [str(pair.get("performance_id", "")) for pair in pairs]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (PARANGONADA, "no line"),
        (PARANGONADA + "0,0,n1\n", "lacks its ids"),
        (PARANGONADA + "0,3,n1,n1\n", "none of 0, 1 and 2"),
        (PARANGONADA + "0,match,n1,n1\n", "none of 0, 1 and 2"),
        ("matchtype,partid\n0,n1\n", "columns matchtype, partid and ppartid"),
        (PARANGONADA + '0,0,"n1,n2\n' + "x" * 200_000, "field larger"),
    ],
)
def test_other_csv_files_are_refused(text: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        load_alignment(table(tmp_path, text))
    assert caught.value.code == "alignment_unreadable"


def test_binary_large_and_missing_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "binary.tsv").write_bytes(b"xml_id\tmidi_id\n\xff\xfe\0")
    with (tmp_path / "large.tsv").open("wb") as file:
        file.truncate(1 << 32)
    for name in ("binary.tsv", "large.tsv", "missing.tsv"):
        with pytest.raises(InputError) as caught:
            load_alignment(tmp_path / name)
        assert caught.value.code == "alignment_unreadable"


def test_repeat_suffixes_ask_for_unfolding() -> None:
    assert needs_unfolding(of_ids("n1-1", "n1-2", "n12-1"))
    assert needs_unfolding(of_ids("n1-1", "n1-2", "", "stray"))
    assert not needs_unfolding(of_ids("n1", "n2"))
    assert not needs_unfolding(of_ids("note-0000001", "note-0000002"))
    assert not needs_unfolding(of_ids("", ""))


def test_the_score_is_unfolded_unless_the_suffixes_are_its_own() -> None:
    folded, unfolded = score_of("n1"), score_of("n1-1", "n1-2")
    assert score_as_aligned(of_ids("n1-1", "n1-2"), lambda unfold: unfolded if unfold else folded) is unfolded
    assert score_as_aligned(of_ids("n1"), lambda unfold: unfolded if unfold else folded) is folded
    written, twice = score_of("n1-1", "n1-2"), score_of("n1-1-1", "n1-2-1")
    assert score_as_aligned(of_ids("n1-1", "n1-2"), lambda unfold: twice if unfold else written) is written

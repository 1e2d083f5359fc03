from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dexter_model.corpora import discover
from dexter_model.corpora.roots import CorpusRoots
from dexter_model.corpora.sources import PieceSource
from dexter_model.dataset.encodings import Codecs
from dexter_model.dataset.piece import Quarantined
from dexter_model.dataset.store import DatasetVersion, list_versions, open_version
from dexter_model.errors import InputError
from flows.build import told as told_to_a_person
from tasks.build import BuildResult, build_dataset

NOTE = """<note id="n{n}"><pitch><step>{step}</step><octave>{octave}</octave></pitch><duration>1</duration>
<voice>1</voice><type>quarter</type></note>"""
SCORE = """<?xml version="1.0" encoding="UTF-8"?>
<score-partwise version="3.1"><part-list><score-part id="P1"><part-name>Piano</part-name></score-part></part-list>
<part id="P1"><measure number="1"><attributes><divisions>1</divisions><time><beats>{notes}</beats>
<beat-type>4</beat-type></time></attributes>{body}</measure></part></score-partwise>"""
CEP_FEATURES = """frame_start_time,melodiousness,articulation,rhythm_complexity,rhythm_stability,dissonance,\
tonal_stability,minorness
15,1,2,3,4,5,6,7
"""
BUILD = """
import sys
from pathlib import Path
from dexter_model.corpora import discover
from dexter_model.corpora.roots import CorpusRoots
from tasks.build import build_dataset
result = build_dataset(discover("FOLDER", CorpusRoots(data_root=sys.argv[1])), sys.argv[2], workers=int(sys.argv[3]))
print(len(result.runs), result.resumed, result.digest, "ray" in sys.modules)
"""


def write_piece(root: Path, name: str, notes: int = 12, performances: int = 2, tempo: int = 480) -> None:
    """A piece of one bar: a score and its match files."""
    root.mkdir(exist_ok=True)
    steps = "CDEFGAB"
    body = "".join(NOTE.format(n=n, step=steps[n % 7], octave=3 + n % 3) for n in range(notes))
    (root / f"{name}.musicxml").write_text(SCORE.format(notes=notes, body=body))
    for p in range(performances):
        lines = ["info(matchFileVersion,1.0.0).", "info(midiClockUnits,480).", "info(midiClockRate,500000)."]
        for n in range(notes):
            score = f"snote(n{n},[{steps[n % 7]},n],{3 + n % 3},1:{n + 1},0,1/4,{n:.4f},{n + 1:.4f},[v1,staff1])"
            onset = tempo * n + 7 * p * (n % 4)
            pitch = 12 * (4 + n % 3) + (0, 2, 4, 5, 7, 9, 11)[n % 7]
            played = f"note({n},{pitch},{onset},{onset + 400},{40 + 5 * p + n},0,0)"
            lines.append(f"{score}-{played if n != 3 else 'deletion'}.")
        (root / f"{name}_p{p:02}.match").write_text("\n".join(lines) + "\n")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    for name in "abcde":
        write_piece(tmp_path / "corpus", f"piece_{name}", tempo=400 + ord(name))
    return tmp_path / "corpus"


def build(corpus: Path, url: Path, workers: int = 0, **options: Any) -> BuildResult:
    return build_dataset(discover("FOLDER", CorpusRoots(data_root=corpus)), str(url), workers=workers, **options)


def assert_same_content(a: DatasetVersion, b: DatasetVersion) -> None:
    assert a.digest == b.digest
    assert a.catalogue.equals(b.catalogue)
    assert a.performances.equals(b.performances)
    assert a.quarantine.equals(b.quarantine)
    for one, other in zip(a.pieces(), b.pieces(), strict=True):
        for name, value in vars(one).items():
            np.testing.assert_array_equal(value, getattr(other, name))


def test_what_is_found_is_built_or_quarantined(corpus: Path, tmp_path: Path) -> None:
    (corpus / "piece_a_p01.match").write_text("no match file")
    (corpus / "piece_b.musicxml").write_text("<score-partwise>")
    result = build(corpus, tmp_path / "store")
    assert (result.discovered, result.built, result.quarantined) == (10, 7, 3)
    assert result.codes == {"performance_unreadable": 1, "score_unreadable": 2}
    version = open_version(str(tmp_path / "store"))
    assert version.catalogue["performances"].to_list() == [1, 2, 2, 2]
    assert set(version.catalogue["split"]) >= {"train", "test"}
    assert version.piece("FOLDER", "piece_c.musicxml").performance.shape == (2, 12, 5)
    assert version.piece("FOLDER", "piece_c.musicxml").matched.sum() == 22
    again = build(corpus, tmp_path / "store")
    assert (again.runs, again.unchanged, again.digest) == ([], 5, result.digest)
    forced = build(corpus, tmp_path / "store", retry_quarantined=True)
    assert [run[1] for run in forced.runs] == ["piece_a.musicxml", "piece_b.musicxml"]
    assert forced.version == "v1"  # nothing came of it


def test_a_change_runs_its_piece_alone_and_says_why(corpus: Path, tmp_path: Path) -> None:
    first = build(corpus, tmp_path / "store")
    assert {run[2] for run in first.runs} == {"new"}
    write_piece(corpus, "piece_b", tempo=333)
    (corpus / "piece_b_p00.match").touch()
    os.utime(corpus / "piece_c.musicxml")  # touched, not changed
    told = build(corpus, tmp_path / "store", dry_run=True)
    changed = "performance piece_b_p00.match changed; performance piece_b_p01.match changed"
    assert told.runs == [("FOLDER", "piece_b.musicxml", changed)]
    assert told.version == "v1"
    second = build(corpus, tmp_path / "store")
    assert second.runs == told.runs
    assert second.version == "v2"
    before, after = open_version(str(tmp_path / "store"), "v1"), open_version(str(tmp_path / "store"))
    same = before.catalogue["digest"] == after.catalogue["digest"]
    assert same.to_list() == [True, False, True, True, True]
    build(corpus, tmp_path / "fresh")
    assert open_version(str(tmp_path / "fresh")).digest == after.digest


def test_another_source_of_perceptual_features_builds_anew(corpus: Path, tmp_path: Path) -> None:
    first = build(corpus, tmp_path / "store")
    assert first.perceptual == {"estimate:symbolic-v1": 10}
    (corpus / "piece_a_p00_cep_features.csv").write_text(CEP_FEATURES)
    assert build(corpus, tmp_path / "store").runs == []
    told = build(corpus, tmp_path / "store", encoding=Codecs("csv"))
    assert {run[2] for run in told.runs[1:]} == {
        "perceptual estimate:symbolic-v1 became csv, else estimate:symbolic-v1"
    }
    assert told.runs[0][2].endswith("perceptual features of piece_a_p00.match added")
    assert told.perceptual == {"estimate:symbolic-v1": 9, "cep_csv": 1}
    version = open_version(str(tmp_path / "store"))
    assert version.encoder["parameters"]["perceptual"] == "csv, else estimate:symbolic-v1"
    heard = version.piece("FOLDER", "piece_a.musicxml")
    assert heard.perceptual[:, 0].tolist()[:1] == [1.0]
    assert heard.frames.sum() == len(heard.perceptual) == len(heard.frame_time)
    assert build(corpus, tmp_path / "store", encoding=Codecs("none")).perceptual == {"none": 10}
    assert list_versions(str(tmp_path / "store")) == ["v1", "v2", "v3"]


def test_a_network_that_cannot_be_read_stops_the_build_before_it_begins(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "net.pt").write_bytes(b"no weights")
    for choice, code in {f"cnn:{tmp_path / 'net.pt'}": "checkpoint_unreadable", "loud": "perceptual_source"}.items():
        with pytest.raises(InputError) as told:
            build(corpus, tmp_path / "store", encoding=Codecs(choice))
        assert told.value.code == code
    assert not (tmp_path / "store").exists()


def test_without_a_cache_a_change_is_seen_all_the_same(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEXTER_CACHE_DIR", "/dev/null/nowhere")
    build(corpus, tmp_path / "store")
    write_piece(corpus, "piece_b", tempo=333)
    result = build(corpus, tmp_path / "store")
    assert [run[1] for run in result.runs] == ["piece_b.musicxml"]
    assert len(open_version(str(tmp_path / "store")).piece("FOLDER", "piece_b.musicxml").score_digest) == 64


def test_what_fails_in_passing_is_tried_by_every_build(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after it failed once more, when nothing new was published."""
    store = tmp_path / "store"
    tried: list[str] = []

    def failing(encoding: Codecs, source: PieceSource, *given: Any) -> Any:
        tried.append(source.key)
        told = ("unreadable", "the disk is away", "look at it", "", "")
        return None, [Quarantined(source.corpus, source.key, each.key, *told) for each in source.performances]

    with monkeypatch.context() as away:
        away.setattr(Codecs, "encode", failing)
        assert {build(corpus, store).version for _ in range(3)} == {"v1"}
    assert set(map(tried.count, tried)) == {3}
    mended = build(corpus, store)
    assert (mended.version, mended.resumed, "unreadable" in mended.codes) == ("v2", 0, False)


def test_names_that_are_no_text_are_built_and_quarantined_like_others(tmp_path: Path) -> None:
    odd = b"\xff\xfe".decode("utf-8", "surrogateescape")
    corpus = tmp_path / odd
    write_piece(corpus, f"A_{odd}")
    (corpus / f"A_{odd}_p01.match").write_text("no match file")
    result = build(corpus, tmp_path / "store")
    assert (result.built, result.codes) == (1, {"performance_unreadable": 1})
    [refused] = open_version(str(tmp_path / "store")).quarantine.rows(named=True)
    assert refused["performance"] == r"A_\udcff\udcfe_p01.match"
    assert r"InputError: A_\udcff\udcfe_p01.match" in refused["traceback"]


def test_a_suffix_in_capitals_is_a_suffix(corpus: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    head = "info(matchFileVersion,1.0.0).\nscoreprop(timeSignature,4/4,1:1,0,0.0000).\n"
    match = (corpus / "piece_a_p00.match").read_text().partition("\n")[2]
    (alone / "TAKE.MATCH").write_text(f"{head}{match}")
    result = build(alone, tmp_path / "store")
    assert (result.built, result.codes) == (1, {})


def test_pieces_that_are_gone_leave_the_version(corpus: Path, tmp_path: Path) -> None:
    build(corpus, tmp_path / "store")
    for file in corpus.glob("piece_d*"):
        file.unlink()
    result = build(corpus, tmp_path / "store")
    assert (result.runs, result.removed, result.pieces) == ([], [("FOLDER", "piece_d.musicxml")], 4)
    assert list_versions(str(tmp_path / "store")) == ["v1", "v2"]


def test_another_rule_of_splits_makes_a_version_and_says_so(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, url = build(corpus, tmp_path / "store"), str(tmp_path / "store")
    assert first.resplit == []
    before = {(row["corpus"], row["key"]): row for row in open_version(url).catalogue.iter_rows(named=True)}
    work = next(row["work"] for row in before.values() if row["split"] == "train")
    monkeypatch.setattr("dexter_model.dataset.splits.TEST_WORKS", frozenset({work}))
    dry = build(corpus, tmp_path / "store", dry_run=True)
    second = build(corpus, tmp_path / "store")
    after = {(row["corpus"], row["key"]): row for row in open_version(url).catalogue.iter_rows(named=True)}
    moved = [place for place in before if before[place]["split"] != after[place]["split"]]
    assert dry.resplit == second.resplit == moved != []
    assert (second.runs, second.unchanged, second.version) == ([], 5, "v2")
    assert all(after[place]["digest"] == before[place]["digest"] for place in before)
    assert f"{len(moved)} in another split" in told_to_a_person(second)[0]
    assert build(corpus, tmp_path / "store").version == "v2"


def test_nothing_to_build_is_no_version(corpus: Path, tmp_path: Path) -> None:
    url = str(tmp_path / "store")
    for _ in range(2):
        with pytest.raises(InputError, match="nothing to build") as told:
            build_dataset([], url, workers=0)
        assert told.value.code == "no_pieces"
    assert build(corpus, tmp_path / "store").version == "v1"
    with pytest.raises(InputError, match="nothing to build"):
        build_dataset([], url, workers=0)
    assert list_versions(url) == ["v1"]
    for file in corpus.glob("*.match"):
        file.write_text("no match file")
    refused = build(corpus, tmp_path / "store")
    assert (refused.version, refused.pieces, refused.quarantined) == ("v2", 0, 10)


def test_a_dry_run_writes_nothing(corpus: Path, tmp_path: Path) -> None:
    result = build(corpus, tmp_path / "store", dry_run=True)
    assert (result.version, len(result.runs), result.discovered) == (None, 5, 10)
    assert not (tmp_path / "store").exists()


def start(corpus: Path, url: Path, workers: int) -> subprocess.Popen[str]:
    """A build in a process of its own, and in a session of its own, so that its children can be killed with it."""
    command = [sys.executable, "-c", BUILD, str(corpus), str(url), str(workers)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)


def kill_after(process: subprocess.Popen[str], url: Path, commits: int) -> None:
    """Kill -9 once so many snapshots are in the store."""
    while process.poll() is None and len(list(url.glob("icechunk/snapshots/*"))) < commits:
        time.sleep(0.002)
    assert process.poll() is None, "the build was over before it could be killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def finish(process: subprocess.Popen[str]) -> tuple[int, int, str, str]:
    out, _ = process.communicate()
    assert process.returncode == 0
    runs, resumed, digest, ray = out.split()
    return int(runs), int(resumed), digest, ray


@pytest.mark.parametrize(("workers", "kills"), [(0, [2, 4]), pytest.param(2, [3], marks=pytest.mark.cluster)])
def test_killed_a_build_goes_on_and_ends_as_an_undisturbed_one(
    corpus: Path, tmp_path: Path, workers: int, kills: list[int]
) -> None:
    url = tmp_path / "store"
    (corpus / "piece_a_p01.match").write_text("no match file")
    (corpus / "piece_b.musicxml").write_text("<score-partwise>")
    for commits in kills:  # a store begins with one
        kill_after(start(corpus, url, workers), url, commits)
        with pytest.raises(InputError) as told:
            open_version(str(url))
        assert told.value.code == "no_dataset"
    runs, resumed, digest, ray = finish(start(corpus, url, workers))
    assert runs == 5
    assert resumed >= 1
    build(corpus, tmp_path / "undisturbed")
    assert digest == open_version(str(tmp_path / "undisturbed")).digest
    assert_same_content(open_version(str(url)), open_version(str(tmp_path / "undisturbed")))
    assert open_version(str(url)).quarantine.height == 3
    assert ray == str(workers > 0)
    assert finish(start(corpus, url, workers)) == (0, 0, digest, "False")  # nothing to do: not even Ray starts


def test_an_old_version_outlives_a_killed_build(corpus: Path, tmp_path: Path) -> None:
    url = tmp_path / "store"
    first = build(corpus, url)
    for name in "abcde":
        write_piece(corpus, f"piece_{name}", tempo=300 + ord(name))
    kill_after(start(corpus, url, 0), url, 9)  # of the first build: the empty store, five shards, the version
    version = open_version(str(url))
    assert (version.id, version.digest) == ("v1", first.digest)
    assert len(list(version.pieces())) == 5
    assert build(corpus, url).resumed >= 1
    assert open_version(str(url)).id == "v2"


def test_two_builds_of_one_store(corpus: Path, tmp_path: Path) -> None:
    url = tmp_path / "store"
    process = start(corpus, url, 0)
    while not (url / "icechunk").exists():
        time.sleep(0.002)
    with pytest.raises(InputError) as told:
        build(corpus, url)
    assert told.value.code == "store_busy"
    finish(process)

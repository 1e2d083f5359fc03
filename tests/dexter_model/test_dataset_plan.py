from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dexter_model.corpora import discover
from dexter_model.corpora.roots import CorpusRoots
from dexter_model.corpora.sources import PerformanceSource, PieceSource
from dexter_model.dataset import perceptual
from dexter_model.dataset.encodings import Codecs
from dexter_model.dataset.perceptual import encoder
from dexter_model.dataset.plan import Run, cut_shards, fingerprint, plan_build, reason_to_retry, reason_to_run
from dexter_model.errors import InputError
from dexter_model.reading.score import READER_VERSION

digests = st.sampled_from(["", "1", "2"])
performances = st.dictionaries(
    st.sampled_from(["a.mid", "b.mid", "c.mid"]),
    st.fixed_dictionaries({"performance": digests, "alignment": digests, "described": st.just(["player", False])}),
)
fingerprints = st.fixed_dictionaries(
    {
        "encoder": st.sampled_from([{"name": "codec", "version": n, "parameters": {}} for n in (1, 2)]),
        "piece": st.fixed_dictionaries({"work": st.sampled_from(["w", "x"]), "title": st.just("t")}),
        "score": digests,
        "performances": performances,
    }
)


@given(fingerprints, fingerprints)
def test_a_piece_runs_exactly_when_something_changed_and_says_what(now: Any, before: Any) -> None:
    reason = reason_to_run(now, before)
    assert (reason is None) == (now == before)
    assert reason is None or reason.strip()
    assert reason_to_run(json.loads(json.dumps(now)), now) is None


def test_the_reason_names_what_changed() -> None:
    before = {
        "encoder": {"name": "codec", "version": 1, "parameters": {}},
        "piece": {"work": "w"},
        "score": "1",
        "performances": {"a.mid": {"performance": "1", "alignment": "1", "described": []}},
    }
    changed = {"a.mid": {"performance": "1", "alignment": "2", "described": []}}
    assert reason_to_run(before, None) == "new"
    assert reason_to_run(before | {"score": "2"}, before) == "score changed"
    assert reason_to_run(before | {"score": ""}, before) == "score removed"
    assert reason_to_run(before | {"performances": changed}, before) == "alignment of a.mid changed"
    assert reason_to_run(before | {"performances": {}}, before) == "performance a.mid removed"
    newer = {"name": "codec", "version": 2, "parameters": {}}
    assert reason_to_run(before | {"encoder": newer}, before) == "encoder codec 1 became codec 2"
    heard = {"name": "codec", "version": 1, "parameters": {"perceptual": "none"}}
    assert reason_to_run(before | {"encoder": heard}, before) == "perceptual unknown became none"


def test_what_may_pass_is_retried_and_the_rest_on_demand() -> None:
    assert reason_to_retry({"unknown_ids"}, retry_quarantined=False) is None
    assert reason_to_retry({"unknown_ids", "worker_died"}, retry_quarantined=False) == "quarantined before: worker_died"
    assert reason_to_retry({"unknown_ids"}, retry_quarantined=True) == "quarantined before: unknown_ids"
    assert reason_to_retry({"parser_timeout", "parser_crash"}, retry_quarantined=False) is None
    assert reason_to_retry({"parser_timeout"}, retry_quarantined=True) == "quarantined before: parser_timeout"
    assert reason_to_retry(set(), retry_quarantined=True) is None


def test_another_reader_of_scores_encodes_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint(piece("a", []))
    assert before["encoder"]["parameters"]["score_reader"] == READER_VERSION
    monkeypatch.setattr(perceptual, "READER_VERSION", READER_VERSION + 1)
    reason = reason_to_run(fingerprint(piece("a", [])), before)
    assert reason == f"score_reader {READER_VERSION} became {READER_VERSION + 1}"


def test_another_source_of_perceptual_features_encodes_anew(tmp_path: Path) -> None:
    (tmp_path / "net.pt").write_bytes(b"weights")
    choices = ("csv", "estimate", "none", f"cnn:{tmp_path / 'net.pt'}")
    made = [fingerprint(piece("a", []), Codecs(choice)) for choice in choices]
    assert reason_to_run(made[1], made[2]) == "perceptual none became estimate:symbolic-v1"
    assert reason_to_run(made[0], made[1]) == "perceptual estimate:symbolic-v1 became csv, else estimate:symbolic-v1"
    told = reason_to_run(made[3], made[1])
    (tmp_path / "net.pt").write_bytes(b"other weights, longer")
    assert told != reason_to_run(fingerprint(piece("a", []), Codecs(choices[3])), made[1])
    for choice in ("loud", f"cnn:{tmp_path / 'gone.pt'}"):
        with pytest.raises(InputError) as refused:
            encoder(choice)
        assert refused.value.code == "perceptual_source"


def test_the_corpus_own_features_decide_the_result_where_they_are_asked_for(tmp_path: Path) -> None:
    (tmp_path / "match").mkdir()
    (tmp_path / "match" / "x_p01.match").touch()

    def source() -> PieceSource:
        return discover("FOLDER", CorpusRoots(data_root=tmp_path))[0]

    before = {choice: fingerprint(source(), Codecs(choice)) for choice in ("csv", "estimate")}
    (tmp_path / "cep_features").mkdir()
    (tmp_path / "cep_features" / "x_p01.csv").write_text("rows")
    added = "perceptual features of match/x_p01.match added"
    assert reason_to_run(fingerprint(source(), Codecs("csv")), before["csv"]) == added
    assert reason_to_run(fingerprint(source(), Codecs("estimate")), before["estimate"]) is None
    (tmp_path / "match" / "x_p01_cep_features.csv").write_text("others, beside it")
    assert source().performances[0].features == str(tmp_path / "match" / "x_p01_cep_features.csv")


def piece(key: str, performances: list[Path]) -> PieceSource:
    played = tuple(PerformanceSource(path.name, str(path), None, "p") for path in performances)
    return PieceSource("FOLDER", key, key, "", "", None, played)


@given(st.lists(st.integers(0, 3000), max_size=60))
def test_shards_keep_every_run_in_order(tmp_path_factory: pytest.TempPathFactory, sizes: list[int]) -> None:
    folder = tmp_path_factory.mktemp("sizes")
    runs = []
    for number, size in enumerate(sizes):
        path = folder / f"{number}.match"
        path.write_bytes(b" " * size)
        runs.append(Run(piece(f"{number:03}", [path]), {}, "new"))
    shards = cut_shards(runs)
    assert [run for shard in shards for run in shard] == runs
    assert all(shards)
    assert len(shards) <= 17 or not sum(sizes)


def test_plan_of_a_first_build(tmp_path: Path) -> None:
    file = tmp_path / "p.match"
    file.write_text("x")
    source = piece("a", [file, tmp_path / "gone.match"])
    first = plan_build([source], None)
    assert [run.reason for run in first.runs] == ["new"]
    assert fingerprint(source)["performances"]["gone.match"]["performance"] == ""
    assert first.runs[0].result == plan_build([source], None).runs[0].result

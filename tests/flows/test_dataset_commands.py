"""``dexter dataset`` pairs, export-hdf5 and import-hdf5, as a person uses them."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import polars as pl
import pytest
from made_up_renders import made_up_piece, publish
from object_arrays import write_object_array
from typer.testing import CliRunner

from dexter_model.errors import InputError
from flows.cli import app


def dexter(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    if done.exception:
        raise done.exception
    return done.output


@pytest.fixture
def store(tmp_path: Path) -> Path:
    publish(str(tmp_path / "store"), [made_up_piece(f"piece {i}", performers=1 + i % 3, seed=i) for i in range(6)])
    return tmp_path / "store"


def test_pairs_are_listed_in_two_tables(store: Path, tmp_path: Path) -> None:
    said = dexter("dataset", "pairs", store, "--window", 30, "--count", 5, "--mixup", "--out", tmp_path / "pairs")
    assert said.startswith("5 pairs; ")
    paired = pl.read_parquet(tmp_path / "pairs" / "paired.parquet")
    assert paired.columns == ["corpus", "piece", "split", "performance_a", "performance_b", "a", "b", "start"]
    assert paired.height == 5
    told = pl.read_parquet_metadata(tmp_path / "pairs" / "unpaired.parquet")
    assert (told["window"], told["seed"]) == ("30", "13")
    with pytest.raises(InputError, match="Give at most 30"):
        dexter("dataset", "pairs", store, "--window", 30, "--hop", 31)


def test_the_originals_files_there_and_back(store: Path, tmp_path: Path) -> None:
    out, back = tmp_path / "hdf5", tmp_path / "back"
    said = dexter(
        "dataset", "export-hdf5", store, out, "--window", 30, "--mixup", "--pairs", 4, "--path-remap", "/a=/b"
    )
    assert "12 performances" in said
    names = [f"codec_N=30_mixup{rest}" for rest in (".hdf5", "_paired_K=4.npy", "_unpaired_K=4.npy")]
    assert {*names, "errors.jsonl", "snote_ids"} == {path.name for path in out.iterdir()}
    pairs = [word for name in names[1:] for word in ("--pairs", out / name)]
    said = dexter("dataset", "import-hdf5", out / names[0], back, *pairs, "--out", tmp_path / "pairs")
    assert "12 performances of 6 pieces, 0 quarantined: version v1" in said
    assert "windows of mixups, left out" in said
    assert pl.read_parquet(tmp_path / "pairs" / "codec_N=30_mixup_paired_K=4.parquet").height == 4
    facts = [json.loads(dexter("dataset", "info", url, "--json")) for url in (store, back)]
    assert facts[0]["performances"] == facts[1]["performances"]
    assert facts[1]["encoder"]["name"] == "import-hdf5"
    write_object_array(out / "theirs.npy")
    with pytest.raises(InputError, match="pickle"):
        dexter("dataset", "import-hdf5", out / names[0], back, "--pairs", out / "theirs.npy")
    with pytest.raises(InputError, match="OLD=NEW"):
        dexter("dataset", "import-hdf5", out / names[0], back, "--path-remap", "/somewhere")


def test_versions_are_listed_compared_and_rolled_back(store: Path) -> None:
    publish(str(store), [made_up_piece(f"piece {i}", seed=i) for i in range(1, 7)], shard="another")
    assert [line.split()[0] for line in dexter("dataset", "log", store).splitlines()] == ["version", "v2", "v1"]
    newest, oldest = json.loads(dexter("dataset", "log", store, "--json"))
    assert (newest["added"], newest["removed"], newest["follows"], oldest["pieces"]) == (1, 1, "v1", 6)
    assert len(json.loads(dexter("dataset", "log", store, "--json", "-n", 1))) == 1
    told = dexter("dataset", "diff", store, "v1")
    assert "1 pieces added\n  MADE_UP piece 6\n" in told
    assert "v1 -> v1: the same content" in dexter("dataset", "diff", store, "v1", "v1")
    assert json.loads(dexter("dataset", "diff", store, "v2", "v1", "--json"))["added"] == [["MADE_UP", "piece 0"]]
    for words, said in ((["--dry-run"], "v1 would be"), ([], "v1 is"), ([], "v1 is the current version already")):
        assert said in dexter("dataset", "rollback", store, "v1", *words)
    facts = json.loads(dexter("dataset", "info", store, "--json"))
    assert (facts["version"], facts["versions"]) == ("v1", ["v1", "v2"])


def test_a_build_after_going_back_finds_what_was_encoded_before(tmp_path: Path) -> None:
    spec = importlib.util.find_spec("parangonar")
    assert spec is not None
    assert spec.submodule_search_locations
    match = Path(spec.submodule_search_locations[0], "assets", "mozart_k265_var1.match").read_bytes()
    corpus, store = tmp_path / "corpus", tmp_path / "store"
    corpus.mkdir()
    build = ("dataset", "build", "--corpus", "FOLDER", "--data-root", corpus, "--store", store, "--workers", 0)
    (corpus / "one.match").write_bytes(match)
    dexter(*build)
    (corpus / "two.match").write_bytes(match)
    assert "1 pieces encoded, 0 of them by an interrupted build before; 1 unchanged" in dexter(*build)
    before = json.loads(dexter("dataset", "info", store, "--json"))
    dexter("dataset", "rollback", store, "v1")
    assert "1 pieces encoded, 1 of them by an interrupted build before; 1 unchanged" in dexter(*build)
    after = json.loads(dexter("dataset", "info", store, "--json"))
    assert (after["version"], after["digest"]) == ("v3", before["digest"])
    assert dexter("dataset", "diff", store, "v2", "v3") == "v2 -> v3: the same content\n"
    assert [run["flow"] for run in json.loads(dexter("runs", "list", store, "--json"))] == ["build"] * 3

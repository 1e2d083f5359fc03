from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from dexter_model.dataset import build as building_module
from dexter_model.dataset import store
from dexter_model.dataset.build import Build, building, gathered, shard_name, write_shard
from dexter_model.dataset.packing import pack
from dexter_model.dataset.piece import Piece, Quarantined
from dexter_model.dataset.store import list_versions, open_version
from dexter_model.errors import InputError
from dexter_model.notes import SCORE_NOTE
from dexter_model.places import absolute


def piece(key: str, notes: int = 30, performances: int = 3, seed: int = 0) -> Piece:
    rng = np.random.default_rng([seed, *key.encode()])
    score = np.zeros(notes, SCORE_NOTE)
    score["onset_div"] = np.arange(notes)
    score["onset_beat"] = np.arange(notes) / 2
    score["pitch"] = rng.integers(21, 109, notes)
    score["articulation"] = rng.integers(0, 128, notes)
    rows = [
        {
            "key": f"{key}/{p}.mid",
            "performer": f"player {p}",
            "synthetic": False,
            "performance_digest": f"{seed}{p}",
            "alignment_digest": "",
            "unknown_ids": p,
            "tempo_outlier": False,
            "mean_tempo": 100.5,
            "perceptual": "estimate:symbolic-v1",
        }
        for p in range(performances)
    ]
    frames = np.arange(1, performances + 1, dtype=np.int32)
    heard = rng.normal(size=(2, frames.sum(), 7)).astype(np.float32)
    heard[:, -1] = np.nan
    return Piece(
        "TEST",
        key,
        f"work of {key}",
        "Composer",
        f"Title é of {key}",
        "digest",
        np.array([f"n{i}-1" if i % 2 else f"é{i}" for i in range(notes)]),
        score,
        rng.normal(size=(performances, notes, 5)).astype(np.float32),
        rng.random((performances, notes)) > 0.1,
        rng.random((performances, notes)) > 0.05,
        rng.normal(size=(performances, notes)).astype(np.float32),
        rows,
        frames,
        np.concatenate([5.0 * np.arange(count) for count in frames]),
        *heard,
    )


def source_rows(pieces: list[Piece]) -> list[dict[str, str]]:
    return [{"corpus": p.corpus, "key": p.key, "result": p.digest(), "fingerprint": "{}"} for p in pieces]


def write(build: Build, pieces: list[Piece], quarantined: tuple[Quarantined, ...] = ()) -> str:
    shard = shard_name(p.digest() for p in pieces)
    build.commit(write_shard(build.url, shard, pieces, quarantined, source_rows(pieces)), shard)
    return shard


def publish(url: str, shards: list[list[Piece]], quarantined: tuple[Quarantined, ...] = ()) -> None:
    with building(url) as build:
        names = [write(build, pieces, quarantined if not i else ()) for i, pieces in enumerate(shards)]
        build.publish(gathered([build.manifest(name) for name in names]))


def assert_equal(a: Piece, b: Piece) -> None:
    assert a.digest() == b.digest()
    blocks = ("note_id", "score", "performance", "matched", "named", "keydown_articulation")
    for name in (*blocks, "frames", "frame_time", "perceptual", "perceptual_reference"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert a.performances == b.performances
    assert (a.corpus, a.key, a.work, a.composer, a.title) == (b.corpus, b.key, b.work, b.composer, b.title)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return str(tmp_path / "store")


FAILURE = Quarantined("TEST", "z", "z/0.mid", "unknown_ids", "no id known", "give the right score", "d", "Traceback")


def test_pieces_come_back_as_they_were(url: str) -> None:
    pieces = [piece(key, notes, players) for key, notes, players in (("a", 30, 3), ("b", 1, 1), ("c", 77, 2))]
    publish(url, [pieces[:2], pieces[2:]], (FAILURE,))
    version = open_version(url)
    assert version.id == "v1"
    assert version.catalogue["key"].to_list() == ["a", "b", "c"]
    assert version.catalogue["notes"].to_list() == [30, 1, 77]
    assert version.performances.height == 6
    assert version.quarantine.row(0, named=True)["reason"] == "no id known"
    for written, read in zip(pieces, version.pieces(), strict=True):
        assert_equal(written, read)
    for written in reversed(pieces):
        assert_equal(written, version.piece("TEST", written.key))


def a_field_each(pieces: list[Piece]) -> dict[str, np.ndarray]:
    """The arrays of a shard as formats 1 and 2 had them: one a field of the score."""
    arrays = {name: array for name, array in pack(pieces).items() if name != "score"}
    notes = np.concatenate([piece.score for piece in pieces])
    return arrays | {f"score_{field}": notes[field] for field in notes.dtype.names}


def test_a_store_of_before_goes_on(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of two formats are in one version, which has the digest that it has when all are new."""
    pieces = [piece("a"), piece("b")]
    with monkeypatch.context() as before:
        before.setattr(building_module, "FORMAT", "dexter-dataset-2")
        before.setattr(building_module, "pack", a_field_each)
        publish(url, [pieces])
    old = open_version(url)
    for written, read in zip(pieces, old.pieces(), strict=True):
        assert_equal(written, read)
    with building(url) as build:
        kept = build.carry_over({("TEST", "a"), ("TEST", "b")})
        added = write(build, [piece("c")])
        build.publish(gathered([kept, build.manifest(added)]))
    for read in open_version(url).pieces():
        assert_equal(piece(read.key), read)
    anew = f"{url}-anew"
    publish(anew, [[*pieces, piece("c")]])
    assert open_version(anew).digest == open_version(url).digest


def test_a_store_of_before_there_were_perceptual_features_is_read(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    later = {"frame_time", "perceptual", "perceptual_reference", "score_pitch"}

    def packed(pieces: list[Piece]) -> dict[str, np.ndarray]:
        return {name: array for name, array in a_field_each(pieces).items() if name not in later}

    tables = {name: dict(columns) for name, columns in building_module.TABLES.items()}
    del tables["catalogue"]["frame_start"], tables["performances"]["perceptual"], tables["performances"]["frames"]
    with monkeypatch.context() as before:
        before.setattr(building_module, "FORMAT", "dexter-dataset-1")
        before.setattr(building_module, "TABLES", tables)
        before.setattr(building_module, "pack", packed)
        publish(url, [[piece("a"), piece("b")]])
    version = open_version(url)
    assert version.performances["perceptual"].to_list() == ["none"] * 6
    read = version.piece("TEST", "b")
    np.testing.assert_array_equal(read.performance, piece("b").performance)
    assert read.frames.tolist() == [0, 0, 0]
    assert np.isnan(read.perceptual_notes(delta=True)).all()
    assert not read.score["pitch"].any()
    publish(url, [[piece("c")]])
    assert open_version(url).performances["perceptual"].to_list() == ["estimate:symbolic-v1"] * 3


def test_a_store_of_another_time_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as later:
        later.setattr(building_module, "FORMAT", "dexter-dataset-9")
        later.setattr(store, "READABLE", ("dexter-dataset-9",))
        publish(url, [[piece("a")]])
    for look in (open_version, lambda url: building(url).__enter__()):
        with pytest.raises(InputError, match="dexter-dataset-9") as told:
            look(url)
        assert told.value.code == "dataset_format"


def test_a_note_has_the_features_of_its_time(url: str) -> None:
    """Two performances, one heard at 0, 5 and 10 s, the other not known after 5 s, and both a beat a second."""
    read = piece("a", notes=12, performances=2)
    read.score["onset_beat"] = np.arange(12)
    read.performance[..., 0] = 1.0
    read.performance[..., 2] = 0.0
    heard = np.arange(6, dtype=np.float32)[:, None].repeat(7, axis=1)
    heard[5] = np.nan
    arrays = {"frames": np.array([3, 3]), "frame_time": np.array([0.0, 5.0, 10.0] * 2), "perceptual": heard}
    piece_heard = dataclasses.replace(read, matched=np.ones((2, 12), bool), **arrays, perceptual_reference=heard - 2)
    notes = piece_heard.perceptual_notes(delta=False)
    np.testing.assert_allclose(notes[0, :, 3], np.minimum(np.arange(12) / 5, 2), atol=1e-6)
    np.testing.assert_allclose(notes[1, :, 6], 3 + np.minimum(np.arange(12) / 5, 1), atol=1e-6)
    np.testing.assert_allclose(piece_heard.perceptual_notes(delta=True), 2.0)


def test_splits_part_the_pieces_by_work(url: str) -> None:
    pieces = [piece(f"{i}", 5, 1) for i in range(12)]
    publish(url, [pieces])
    version = open_version(url)
    parts = {split: {p.key for p in version.pieces(split)} for split in ("train", "validation", "test")}
    assert parts["train"]
    assert parts["test"]
    assert sorted(key for part in parts.values() for key in part) == sorted(p.key for p in pieces)


def test_a_shard_of_failures_only_is_no_trouble(url: str) -> None:
    assert not any(array.size for array in pack([]).values())
    with building(url) as build:
        shard = "failures"
        build.commit(write_shard(url, shard, [], [FAILURE], []), shard)
        version = build.publish(gathered([build.manifest(shard)]))
    assert version.quarantine.height == 1
    assert list(version.pieces()) == []


def test_readers_see_the_old_version_until_the_new_one_is_whole(url: str) -> None:
    publish(url, [[piece("a")]])
    before = open_version(url)
    with building(url) as build:
        kept = build.carry_over({("TEST", "a")})
        shard = write(build, [piece("b")])
        assert open_version(url).id == "v1"
        assert open_version(url).digest == before.digest
        build.publish(gathered([kept, build.manifest(shard)]))
    assert open_version(url).id == "v2"
    assert open_version(url).catalogue["key"].to_list() == ["a", "b"]
    assert open_version(url, "v1").catalogue["key"].to_list() == ["a"]
    assert_equal(next(before.pieces()), piece("a"))
    assert list_versions(url) == ["v1", "v2"]


def test_an_interrupted_build_leaves_its_shards_to_the_next(url: str) -> None:
    with building(url) as build:
        shard = write(build, [piece("a")])
    with pytest.raises(InputError) as told:
        open_version(url)
    assert told.value.code == "no_dataset"
    with building(url) as build:
        assert build.finished_shards() == {shard}
        build.publish(gathered([build.manifest(shard)]))
    assert_equal(open_version(url).piece("TEST", "a"), piece("a"))


def test_the_digest_is_of_the_content_not_of_its_history(url: str, tmp_path: Path) -> None:
    a, b, c = (piece(key) for key in "abc")
    publish(url, [[a, b, c]])
    other = str(tmp_path / "other")
    publish(other, [[c]])
    with building(other) as build:
        kept = build.carry_over({("TEST", "c")})
        shards = [write(build, [b]), write(build, [a])]
        build.publish(gathered([kept, *map(build.manifest, shards)]))
    assert open_version(url).digest == open_version(other).digest
    changed = str(tmp_path / "changed")
    publish(changed, [[a, b, piece("c", seed=1)]])
    assert open_version(changed).digest != open_version(url).digest


def test_publishing_the_same_content_again_makes_no_version(url: str) -> None:
    publish(url, [[piece("a")]])
    with building(url) as build:
        assert build.publish(build.carry_over({("TEST", "a")})).id == "v1"
    assert list_versions(url) == ["v1"]


def test_mostly_dead_shards_are_written_anew_and_dropped(url: str) -> None:
    pieces = [piece(key) for key in "abcd"]
    publish(url, [pieces])
    old = open_version(url).catalogue["shard"][0]
    with building(url) as build:
        build.publish(build.carry_over({("TEST", "b"), ("TEST", "c")}))
    assert open_version(url).catalogue["shard"].to_list() == [old, old]
    with building(url) as build:
        build.publish(build.carry_over({("TEST", "c")}))
        assert old not in build.finished_shards()
    version = open_version(url)
    assert version.catalogue["shard"].to_list() != [old]
    assert_equal(version.piece("TEST", "c"), pieces[2])
    assert_equal(open_version(url, "v1").piece("TEST", "a"), pieces[0])


def test_one_build_at_a_time(url: str) -> None:
    with building(url), pytest.raises(InputError) as told, building(url):
        pass
    assert told.value.code == "store_busy"
    with building(url):
        pass


def test_a_build_killed_between_publishing_and_tagging_is_mended(url: str) -> None:
    publish(url, [[piece("a")]])
    with building(url) as build:
        build.repository.delete_tag("v1")
    tag = Path(url, "icechunk", "refs")
    for file in tag.rglob("*v1*/*"):  # as if it had never been made: icechunk never reuses a deleted tag
        file.unlink()
    assert open_version(url, "v1").id == "v1"
    with building(url):
        pass
    assert list_versions(url) == ["v1"]


def test_clear_errors(url: str, tmp_path: Path) -> None:
    def code(*arguments: str) -> str:
        with pytest.raises(InputError) as told:
            open_version(*arguments)
        return told.value.code

    assert code(url) == "no_dataset"
    assert not Path(url).exists()
    file = tmp_path / "file"
    file.touch()
    assert code(str(file)) == "bad_url"
    assert code("gs://bucket/x") == "bad_url"
    publish(url, [[piece("a")]])
    assert code(url, "v7") == "no_version"
    with pytest.raises(InputError) as told:
        open_version(url).piece("TEST", "nobody")
    assert told.value.code == "no_piece"


def test_a_url_means_the_same_in_every_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute("runs/data") == str(tmp_path / "runs" / "data")
    assert absolute("s3://bucket/data") == "s3://bucket/data"
    assert absolute(str(tmp_path)) == str(tmp_path)

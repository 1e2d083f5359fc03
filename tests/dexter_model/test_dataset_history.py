"""Versions over time: the log, differences, and going back without losing or damaging anything."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import icechunk
import pytest
from made_up_renders import made_up_piece, refused

from dexter_model.dataset import build as building_module
from dexter_model.dataset import history
from dexter_model.dataset.build import ALIVE, MANY_SMALL, building, gathered, shard_name, write_shard
from dexter_model.dataset.piece import Piece, Quarantined
from dexter_model.dataset.store import DatasetVersion, list_versions, open_version
from dexter_model.errors import InputError

A, B, C, D = (made_up_piece(key, seed=seed) for seed, key in enumerate("abcd"))


def build(url: str, wanted: Iterable[Piece], quarantined: tuple[Quarantined, ...] = ()) -> tuple[DatasetVersion, int]:
    """Make the data set hold these pieces as a build does, a shard each; the version, and how many were encoded."""
    with building(url) as under_way:
        now = under_way.current
        known = set(now.catalogue.select("key", "digest").rows()) if now else set()
        kept = [piece for piece in wanted if (piece.key, piece.digest()) in known]
        parts, encoded = [under_way.carry_over({(piece.corpus, piece.key) for piece in kept})], 0
        for piece in wanted:
            shard = shard_name([piece.digest()])
            if piece in kept:
                continue
            if shard not in under_way.finished_shards():
                row = {"corpus": piece.corpus, "key": piece.key, "result": piece.digest(), "fingerprint": "{}"}
                under_way.commit(write_shard(url, shard, [piece], quarantined if not encoded else (), [row]), shard)
                encoded += 1
            parts.append(under_way.manifest(shard))
        return under_way.publish(gathered(parts)), encoded


def assert_whole(version: DatasetVersion, pieces: Iterable[Piece]) -> None:
    """Every array of every piece is there, as it was."""
    assert [read.digest() for read in version.pieces()] == [piece.digest() for piece in pieces]


@pytest.fixture(params=["folder", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return str(tmp_path / "store")
    return f"{request.getfixturevalue('moto_bucket')}/data"


def test_the_log_tells_what_each_version_holds_and_how_much_changed(url: str) -> None:
    build(url, [A, B])
    changed = dataclasses.replace(B, title="another")
    build(url, [A, changed, C], (refused("c/9.mid", "no"),))
    newest, oldest = history.log(url)
    assert (newest.id, newest.follows, newest.current, oldest.id, oldest.follows) == ("v2", "v1", True, "v1", None)
    assert (newest.pieces, newest.performances, newest.quarantined) == (3, 9, 1)
    assert (newest.added, newest.removed, newest.changed) == (1, 0, 1)
    assert (oldest.added, oldest.shards_written) == (2, 2)
    assert newest.rows == sum(piece.matched.size for piece in (A, B, C))
    assert newest.digest == open_version(url).digest
    assert history.published(url) == newest.published > oldest.published
    assert [each.id for each in history.log(url, 1)] == ["v2"]


def test_a_difference_names_pieces_performances_and_quarantine(url: str) -> None:
    build(url, [A, B, C])
    fewer = dataclasses.replace(
        B,
        performance=B.performance[:2],
        matched=B.matched[:2],
        named=B.named[:2],
        keydown_articulation=B.keydown_articulation[:2],
        performances=B.performances[:2],
        frames=B.frames[:2],
    )
    build(url, [A, fewer, D], (refused("b/p2.mid", "no"),))
    found = history.diff(url, "v1")
    assert (found.before, found.after, found.same) == ("v1", "v2", False)
    assert (found.added, found.removed) == ([("MADE_UP", "d")], [("MADE_UP", "c")])
    assert [row[:2] for row in found.changed] == [("MADE_UP", "b")]
    assert ("MADE_UP", "b/p2.mid") in found.performances_removed
    assert {key[0] for _, key in found.performances_removed} == {"b", "c"}
    assert {key[0] for _, key in found.performances_added} == {"d"}
    assert ("MADE_UP", "b/p2.mid", "missing_score") in found.quarantined
    back = history.diff(url, "v2", "v1")
    assert (back.added, back.removed, back.released) == (found.removed, found.added, found.quarantined)
    assert history.diff(url, "v2", "v2") == history.Difference("v2", "v2", same=True)


def test_going_back_loses_nothing_and_the_next_build_goes_on_from_there(url: str) -> None:
    """v2 left v1's shard of b behind; what is built after going back to v1 must have it again, and encodes nothing."""
    build(url, [A, B])
    build(url, [A, C])
    assert history.rollback(url, "v1", dry_run=True).added == [("MADE_UP", "b")]
    assert open_version(url).id == "v2"
    assert history.rollback(url, "v1").removed == [("MADE_UP", "c")]
    assert open_version(url).id == "v1"
    assert_whole(open_version(url), [A, B])
    assert_whole(open_version(url, "v2"), [A, C])
    assert history.rollback(url, "v1") == history.Difference("v1", "v1", same=True)
    version, encoded = build(url, [A, B, C])
    assert (version.id, version.follows, encoded) == ("v3", "v1", 0)
    for name, pieces in {"v1": [A, B], "v2": [A, C], "v3": [A, B, C]}.items():
        assert_whole(open_version(url, name), pieces)
    assert [(each.id, each.follows, each.current) for each in history.log(url)] == [
        ("v3", "v1", True),
        ("v2", "v1", False),
        ("v1", None, False),
    ]


def test_names_are_never_given_again(tmp_path: Path) -> None:
    url = str(tmp_path)
    for wanted in ([A], [A, B], [A, B, C]):
        build(url, wanted)
    for back in ("v1", "v3", "v2", "v1"):
        history.rollback(url, back)
        assert open_version(url).id == back
    assert build(url, [A])[0].id == "v1"  # what it holds already
    assert build(url, [A, D])[0].id == "v4"
    history.rollback(url, "v3")
    version, _ = build(url, [C, D])
    assert (version.id, list_versions(url)) == ("v5", ["v1", "v2", "v3", "v4", "v5"])
    assert_whole(version, [C, D])
    assert_whole(open_version(url, "v4"), [A, D])


def test_shards_written_anew_survive_going_back(tmp_path: Path) -> None:
    """A shard of four pieces of which one stays is copied by v2 and dropped; v1 still needs it."""
    url = str(tmp_path)
    assert ALIVE > 0.25
    with building(url) as under_way:
        under_way.commit(write_shard(url, "four", [A, B, C, D], (), []), "four")
        under_way.publish(under_way.manifest("four"))
    with building(url) as under_way:
        under_way.publish(under_way.carry_over({("MADE_UP", "a")}))
    history.rollback(url, "v1")
    with building(url) as under_way:
        version = under_way.publish(under_way.carry_over({("MADE_UP", key) for key in "abc"}))
    assert (version.id, set(version.catalogue["shard"])) == ("v3", {"four"})
    assert_whole(version, [A, B, C])


def test_a_build_killed_before_it_published_leaves_nothing_that_is_missed(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit of a version without b's shard was made, and nobody was told: b may still be wanted."""
    build(url, [A, B])

    move = icechunk.Repository.reset_branch

    def killed(repository: icechunk.Repository, branch: str, *to: str, **expected: str) -> None:
        if branch == "main":
            raise KeyboardInterrupt
        move(repository, branch, *to, **expected)

    with monkeypatch.context() as patched:
        patched.setattr(icechunk.Repository, "reset_branch", killed)
        with pytest.raises(KeyboardInterrupt):
            build(url, [A, C])
    assert open_version(url).id == "v1"
    version, encoded = build(url, [A, B, C])
    assert (version.id, encoded) == ("v2", 0)
    assert_whole(version, [A, B, C])


def test_what_cannot_be_done_is_refused(url: str) -> None:
    build(url, [A])
    build(url, [B])
    cases = [(lambda: history.rollback(url, "v9"), "no_version"), (lambda: history.diff(url, "v1", "x"), "no_version")]
    cases += [
        (lambda: history.log(f"{url}-not"), "no_dataset"),
        (lambda: history.rollback(f"{url}-not", "v1"), "no_dataset"),
    ]
    for call, code in cases:
        with pytest.raises(InputError) as told:
            call()
        assert told.value.code == code
    with building(url) as under_way:
        if "://" not in url:
            with pytest.raises(InputError) as told:
                history.rollback(url, "v1")
            assert told.value.code == "store_busy"
            return
        history.rollback(url, "v1")  # at S3 the build that is under way finds out when it publishes
        with pytest.raises(InputError) as told:
            under_way.publish(under_way.carry_over(set()) | {"quarantine": [dataclasses.asdict(refused("x", "y"))]})
        assert told.value.code == "store_busy"
    assert open_version(url).id == "v1"


def test_many_small_additions_are_put_together(tmp_path: Path) -> None:
    """As many shards as make a version slow to read; every version has the digest that it has when built at once."""
    url = str(tmp_path / "store")
    pieces = [made_up_piece(f"{number:02}", seed=number) for number in range(MANY_SMALL + 3)]
    for many in range(1, len(pieces) + 1):
        version, encoded = build(url, pieces[:many])
        assert encoded == 1
        shards = version.catalogue["shard"].n_unique()
        assert shards <= MANY_SMALL
    assert shards == 4
    assert_whole(version, pieces)
    assert_whole(open_version(url, f"v{MANY_SMALL}"), pieces[:MANY_SMALL])
    assert build(str(tmp_path / "anew"), pieces)[0].digest == version.digest


def test_only_small_shards_are_put_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building_module, "SMALL", made_up_piece("a", seed=0).matched.size)
    pieces = [made_up_piece(f"{number:02}", seed=number) for number in range(MANY_SMALL + 3)]
    build(str(tmp_path), pieces[:-1])
    assert build(str(tmp_path), pieces)[0].catalogue["shard"].n_unique() == len(pieces)

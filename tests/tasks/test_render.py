"""Rendering jobs as a person runs them: folders in, folders out, bad files told, nothing made twice."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from made_up_renders import made_up_piece, publish
from tiny_models import write_random_checkpoint

from dexter_model.codec.files import load_codec
from dexter_model.dataset.store import open_version
from dexter_model.errors import InputError
from dexter_model.notes import Score
from dexter_model.reading.midi import load_midi
from dexter_model.reading.score import load_score
from dexter_model.renders import JOURNAL, LISTING, RendersFolder
from tasks.cluster import WorkerDied, fan_out
from tasks.render import RenderSettings, render_scores, render_split

ROOT = Path(__file__).parents[2]
CHORALES = Path(str(importlib.util.find_spec("music21").origin)).parent / "corpus" / "bach"  # type: ignore[union-attr]
ENTITIES = (
    b'<?xml version="1.0"?><!DOCTYPE s [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><score-partwise>&b;</score-partwise>'
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("models") / "random")


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two chorales, one in a folder of its own."""
    folder = tmp_path_factory.mktemp("scores")
    (folder / "bach").mkdir()
    shutil.copy(CHORALES / "bwv66.6.mxl", folder)
    shutil.copy(CHORALES / "bwv269.mxl", folder / "bach")
    return folder


@pytest.fixture
def options(checkpoint: Path) -> dict[str, Any]:
    return {"checkpoint": checkpoint, "steps": 2}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_of_scores(scores: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    result = render_scores([scores], tmp_path, RenderSettings(**options))
    listing = json.loads((tmp_path / "renders.json").read_text())
    assert listing["renders"] == result.renders
    assert [row["name"] for row in result.renders] == ["bach/bwv269", "bwv66.6"]
    assert (result.made, result.quarantined) == (2, [])
    assert listing["checkpoint"]["label"] == "random"
    for row in result.renders:
        score, codec = load_score(row["score"]), load_codec(tmp_path / row["codec"])
        assert codec.note_id.tolist() == score.note_id.tolist()
        assert codec.matched.all()
        played = load_midi(tmp_path / row["midi"])
        assert len(played.notes) == row["notes"] == len(score.notes)
        assert len(played.pedal)
        assert np.ptp(codec.p_codec, axis=0).min() > 0
        assert abs((played.notes["onset_sec"] + played.notes["keydown_sec"]).max() - row["duration_sec"]) < 1


def test_the_batch_size_changes_no_byte(scores: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    for size in (1, 3, 64):
        render_scores([scores], tmp_path / str(size), RenderSettings(**options, batch_size=size))
    assert contents(tmp_path / "1") == contents(tmp_path / "3") == contents(tmp_path / "64")


def test_samples_differ_and_the_first_is_the_single_one(scores: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    render_scores([scores / "bwv66.6.mxl"], tmp_path, RenderSettings(**options))
    result = render_scores([scores / "bwv66.6.mxl"], tmp_path, RenderSettings(**options, samples=3))
    assert [row["name"] for row in result.renders] == ["bwv66.6", "bwv66.6_sample1", "bwv66.6_sample2"]
    assert [row["sample"] for row in result.renders] == [0, 1, 2]
    assert result.made == 2
    assert len({row["digest"] for row in result.renders}) == 3


def test_nothing_is_made_twice_and_what_is_spoilt_is_made_again(
    scores: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    render_scores([scores], tmp_path, RenderSettings(**options))
    before = contents(tmp_path)
    assert render_scores([scores], tmp_path, RenderSettings(**options)).made == 0
    assert contents(tmp_path) == before
    (tmp_path / "bwv66.6.mid").write_bytes(b"spoilt")
    (tmp_path / "bach/bwv269.npz").unlink()
    assert render_scores([scores], tmp_path, RenderSettings(**options)).made == 2
    assert contents(tmp_path) == before
    for other in ({"seed": 14}, {"sampler": "ddim"}, {"sampler": "ddim", "eta": 0.5}):
        assert render_scores([scores], tmp_path, RenderSettings(**options, **other)).made == 2
        assert contents(tmp_path) != before


def test_an_interrupted_job_goes_on_and_ends_like_an_undisturbed_one(
    scores: Path, tmp_path: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = RenderSettings(**options, samples=3, batch_size=2)
    render_scores([scores], tmp_path / "undisturbed", settings)
    add = RendersFolder.add

    def interrupted(folder: RendersFolder, row: dict[str, Any], *rest: Any) -> dict[str, Any]:
        if row["name"] == "bwv66.6":
            raise KeyboardInterrupt
        return add(folder, row, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(RendersFolder, "add", interrupted)
        with pytest.raises(KeyboardInterrupt):
            render_scores([scores], tmp_path / "out", settings)
    assert not (tmp_path / "out" / "renders.json").exists()
    with (tmp_path / "out" / JOURNAL).open("a") as journal:
        journal.write('{"name": "cut o')
    assert render_scores([scores], tmp_path / "out", settings).made == 3
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


def test_bad_files_are_quarantined_and_the_rest_completes(
    scores: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    mixed = tmp_path / "mixed"
    shutil.copytree(scores, mixed)
    (mixed / "empty.mid").touch()
    (mixed / "bomb.xml").write_bytes(ENTITIES)
    (mixed / "cut.mxl").write_bytes((scores / "bwv66.6.mxl").read_bytes()[:900])
    (mixed / "page.musicxml").write_text("<html><body>404</body></html>")
    result = render_scores([mixed], tmp_path / "out", RenderSettings(**options))
    assert [row["name"] for row in result.renders] == ["bach/bwv269", "bwv66.6"]
    told = json.loads((tmp_path / "out" / "renders.json").read_text())["quarantined"]
    assert told == result.quarantined
    assert [row["path"] for row in told] == [
        str(mixed / name) for name in ("bomb.xml", "cut.mxl", "empty.mid", "page.musicxml")
    ]
    assert {row["code"] for row in told} == {"score_unsafe", "score_unreadable"}
    assert all(row["reason"] for row in told)


def test_paths_are_told_as_they_were_given(
    scores: Path, tmp_path: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(scores, tmp_path / "in")
    shutil.copy(scores / "bwv66.6.mxl", tmp_path / "in/bach")
    (tmp_path / "in/bach/bad.mei").touch()
    monkeypatch.chdir(tmp_path / "in/bach")
    result = render_scores(["bwv66.6.mxl", "../bwv66.6.mxl", "../bach"], "../../out", RenderSettings(**options))
    told = (tmp_path / "out/renders.json").read_text()
    assert [(row["name"], row["score"]) for row in result.renders] == [
        ("bwv66.6", "bwv66.6.mxl"),
        ("bwv66.6_2", "../bwv66.6.mxl"),
        ("bwv269", "../bach/bwv269.mxl"),
    ]
    assert [row["path"] for row in result.quarantined] == ["../bach/bad.mei"]
    assert str(tmp_path) not in told
    result = render_scores(["bwv66.6.mxl", tmp_path / "in/bwv66.6.mxl"], tmp_path / "out", RenderSettings(**options))
    assert [row["name"] for row in result.renders] == ["bwv66.6", "in/bwv66.6"]


def test_a_renderer_that_was_mended_makes_all_anew(
    scores: Path, tmp_path: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    render_scores([scores], tmp_path, RenderSettings(**options))
    monkeypatch.setattr("tasks.render.RENDERER", "mended")
    assert render_scores([scores], tmp_path, RenderSettings(**options)).made == 2


def test_a_render_whose_worker_died_is_quarantined_and_made_next_time(
    scores: Path, tmp_path: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = RenderSettings(**options, batch_size=2)
    render_scores([scores], tmp_path / "undisturbed", settings)

    def one_death(make_worker: Any, jobs: Any, **how: Any) -> Iterator[tuple[int, Any]]:
        for index, outcome in fan_out(make_worker, jobs, **how):
            yield index, WorkerDied("killed") if index == 1 and not isinstance(outcome, Score) else outcome

    with monkeypatch.context() as patch:
        patch.setattr("tasks.render.fan_out", one_death)
        result = render_scores([scores], tmp_path / "out", settings)
    assert [row["name"] for row in result.renders] == ["bach/bwv269"]
    path = str(scores / "bwv66.6.mxl")
    assert result.quarantined == [{"path": path, "code": "worker_died", "reason": "killed"}]
    assert render_scores([scores], tmp_path / "out", settings).made == 1
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


def test_a_single_bad_score_is_told_before_any_model_is_looked_for(tmp_path: Path) -> None:
    (tmp_path / "bad.musicxml").write_text("<score-partwise>")
    settings = RenderSettings(checkpoint=tmp_path / "no such checkpoint")
    with pytest.raises(InputError) as caught:
        render_scores([tmp_path / "bad.musicxml"], tmp_path / "out", settings)
    assert caught.value.path == str(tmp_path / "bad.musicxml")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("name", "code"), [("model.pt", "unsafe_checkpoint"), ("absent", "checkpoint_unreadable")])
def test_a_checkpoint_that_cannot_be_used_is_told(scores: Path, tmp_path: Path, name: str, code: str) -> None:
    (tmp_path / "model.pt").write_bytes(b"\x80\x04.")
    with pytest.raises(InputError) as caught:
        render_scores([scores], tmp_path / "out", RenderSettings(checkpoint=tmp_path / name))
    assert caught.value.code == code


def test_a_file_in_the_place_of_the_folder_is_told(scores: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(InputError, match="cannot be made a folder"):
        render_scores([scores], tmp_path / "out", RenderSettings(**options))


BAD_SETTINGS = [{name: 0} for name in ("steps", "samples", "batch_size")]
BAD_SETTINGS += [{"guidance": float("nan")}, {"sampler": "euler"}, {"eta": 1.5}, {"eta": 0.5}]


@pytest.mark.parametrize("bad", BAD_SETTINGS)
def test_settings_out_of_range_are_told(bad: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="--"):
        RenderSettings(**bad)


def test_more_steps_than_the_diffusion_has_are_told(scores: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="at most 1000"):
        render_scores([scores], tmp_path, RenderSettings(**options | {"steps": 1001}))


def test_one_score_needs_neither_ray_nor_prefect_nor_partitura(scores: Path, tmp_path: Path, checkpoint: Path) -> None:
    code = (
        "import sys; from tasks.render import RenderSettings, render_scores\n"
        f"render_scores([{str(scores / 'bwv66.6.mxl')!r}], {str(tmp_path)!r},"
        f" RenderSettings(checkpoint={str(checkpoint)!r}, steps=1))\n"
        "print(sorted({'ray', 'prefect', 'partitura', 'polars', 'zarr'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_the_pieces_of_a_split(tmp_path: Path, options: dict[str, Any]) -> None:
    store = str(tmp_path / "store")
    pieces = {piece.key: piece for piece in (made_up_piece("sonata/1"), made_up_piece("étude", performers=1, seed=1))}
    publish(store, list(pieces.values()))
    for split, keys in splits(store).items():
        result = render_split(store, split, tmp_path / split, RenderSettings(**options))
        assert [(row["corpus"], row["piece"]) for row in result.renders] == [("MADE_UP", key) for key in keys]
        for row in result.renders:
            assert row["name"] == f"MADE_UP/{row['piece']}"
            codec = load_codec(tmp_path / split / row["codec"])
            assert codec.note_id.tolist() == pieces[row["piece"]].note_id.tolist()


def test_paired_pieces_have_two_human_performances(tmp_path: Path, options: dict[str, Any]) -> None:
    store = str(tmp_path / "store")
    human = made_up_piece("human", synthetic=[False, True, False])
    publish(
        store, [human, made_up_piece("single", synthetic=[False, True, True]), made_up_piece("rules", synthetic=True)]
    )
    rendered, refused = [], []
    for split, keys in splits(store).items():
        if "human" in keys:
            result = render_split(store, split, tmp_path / split, RenderSettings(**options), paired=True)
            rendered += [row["piece"] for row in result.renders]
        else:
            with pytest.raises(InputError, match="no piece with two human performances") as caught:
                render_split(store, split, tmp_path / split, RenderSettings(**options), paired=True)
            refused.append(caught.value.code)
    assert rendered == ["human"]
    assert set(refused) <= {"no_pieces"}


def splits(store: str) -> dict[str, list[str]]:
    """Keys of the pieces of each split, in order."""
    found: dict[str, list[str]] = {}
    for row in open_version(store).catalogue.iter_rows(named=True):
        found.setdefault(row["split"], []).append(row["key"])
    return found


@pytest.mark.cluster
def test_actors_make_the_same_bytes(scores: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    (scores / "bad.xml").write_text("no score")
    for workers in (0, 2):
        settings = RenderSettings(**options, workers=workers, batch_size=3)
        result = render_scores([scores], tmp_path / str(workers), settings)
        assert len(result.renders) == 2
        assert len(result.quarantined) == 1
    assert contents(tmp_path / "0") == contents(tmp_path / "2")


@pytest.mark.cluster
def test_a_killed_sampler_changes_no_byte(scores: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    """SIGKILL hits a sampling actor when the first of many renders is written; its batch is done again."""
    settings = RenderSettings(**options | {"steps": 20}, samples=20, batch_size=1, workers=2)
    undisturbed = render_scores([scores], tmp_path / "0", replace(settings, workers=0))  # scores are known from now on
    killed: list[bool] = []

    def kill_a_sampler() -> None:
        journal = tmp_path / "2" / JOURNAL
        while not (journal.exists() and journal.stat().st_size):
            time.sleep(0.01)
        for process in psutil.Process().children(recursive=True):
            if not killed and process.name().startswith("ray::Actor"):
                process.kill()
                killed.append((tmp_path / "2" / LISTING).exists())

    killer = threading.Thread(target=kill_a_sampler, daemon=True)
    killer.start()
    result = render_scores([scores], tmp_path / "2", settings)
    killer.join(10)
    assert killed == [False]
    assert (result.made, result.quarantined) == (undisturbed.made, undisturbed.quarantined)
    assert contents(tmp_path / "0") == contents(tmp_path / "2")

"""Judging generated music end to end: a data set and folders of MIDI files in, figures, verdict and report out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from made_up_music import music, noise, publish_music, write_music
from made_up_renders import made_up_piece, publish

from dexter_model.errors import InputError
from dexter_model.metrics.generated import HUMAN
from dexter_model.places import join, names, write
from dexter_model.renders import JOURNAL, LISTING
from dexter_model.synthesis import why_silent
from tasks.judge import JudgeResult, judge
from tasks.judge_baseline import DRAWS, JUDGEMENT
from tasks.report import ReportInputs, write_report

LEARNT = [music(100 + seed) for seed in range(6)]
HOSTILE = "<script>alert(1)<"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    held_out = [music(seed) for seed in range(12)]
    return publish_music(str(tmp_path_factory.mktemp("store") / "data"), {"train": LEARNT, "test": held_out})


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    below = tmp_path_factory.mktemp("generated")
    made = {HOSTILE: [music(200 + s) for s in range(6)], "noise": [noise(s) for s in range(6)], "copier": LEARNT[:4]}
    found = {name: write_music(below / str(number), pieces) for number, (name, pieces) in enumerate(made.items())}
    (found["noise"] / "broken.mid").write_bytes(b"MThd no more")
    (found["noise"] / "generated.json").write_text("{}")
    return found


@pytest.fixture(scope="module")
def judgement(store: str, folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> JudgeResult:
    return judge(store, folders, tmp_path_factory.mktemp("judged"), workers=0)


def figure(result: JudgeResult, system: str, measure: str, feature: str = "") -> float:
    (row,) = (r for r in result.rows if (r["system"], r["feature"], r["measure"]) == (system, feature, measure))
    return float(row["mean"])


def test_music_is_told_from_noise(judgement: JudgeResult) -> None:
    assert figure(judgement, HOSTILE, "overlap_area") > figure(judgement, "noise", "overlap_area") + 0.2
    assert figure(judgement, HOSTILE, "js") < figure(judgement, "noise", "js") - 0.1
    assert figure(judgement, HUMAN, "overlap_area") > 0.8
    assert figure(judgement, "copier", "16", "copies") > 0.9
    assert figure(judgement, HOSTILE, "16", "copies") < 0.1


def test_what_is_written_tells_where_it_is_from(judgement: JudgeResult, folders: dict[str, Path]) -> None:
    content = json.loads(Path(judgement.out, JUDGEMENT).read_text())
    assert [system["name"] for system in content["systems"]] == list(folders)
    assert [system["pieces"] for system in content["systems"]] == [6, 7, 4]
    assert (content["held_out"]["works"], content["training"]["pieces"]) == (12, 6)
    assert judgement.refused == [
        {"system": "noise", "name": "broken.mid"} | {key: content["refused"][0][key] for key in ("code", "reason")}
    ]
    copied = [piece for piece in content["pieces"] if piece["system"] == "copier"]
    assert [piece["nearest"] for piece in copied] == [f"MUSIC/train/{number:03}.mid" for number in range(4)]
    assert all(piece["longest"] > 0.9 * piece["notes"] for piece in copied)
    assert str(Path(judgement.out).parent) not in Path(judgement.out, JUDGEMENT).read_text()


def test_the_same_again_is_the_same_bytes(
    judgement: JudgeResult, store: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    moved = {name: Path(shutil.copytree(folder, tmp_path / str(n))) for n, (name, folder) in enumerate(folders.items())}
    again = judge(store, moved, tmp_path / "again", workers=0)
    assert again.digest == judgement.digest
    for name in (JUDGEMENT, DRAWS):
        assert Path(again.out, name).read_bytes() == Path(judgement.out, name).read_bytes()


def test_a_model_that_got_worse_is_a_regression(
    judgement: JudgeResult, store: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    swapped = folders | {HOSTILE: folders["noise"]}
    worse = judge(store, swapped, tmp_path / "worse", workers=0, baseline=judgement.out).regression
    assert worse is not None
    assert not worse["passed"]
    found = {(row["system"], row["figure"]) for row in worse["comparisons"] if row["verdict"] == "regression"}
    assert found == {(HOSTILE, "overlap_area"), (HOSTILE, "js")}
    same = judge(store, folders, tmp_path / "same", workers=0, baseline=judgement.out).regression
    assert same is not None
    assert same["passed"]
    assert same["baseline"]["same_data_set"]
    assert json.loads((tmp_path / "same" / JUDGEMENT).read_text())["regression"] == same


def test_baselines_that_are_none(judgement: JudgeResult, store: str, folders: dict[str, Path], tmp_path: Path) -> None:
    some = {"noise": folders["noise"]}
    damaged = Path(shutil.copytree(judgement.out, tmp_path / "damaged"))
    (damaged / DRAWS).write_bytes(b"PAR1")
    other = publish_music(str(tmp_path / "other"), {"train": LEARNT[:1], "test": LEARNT[1:]})
    for code, arguments in {
        "baseline_unreadable": (store, some, tmp_path / "out", None, damaged),
        "baseline_is_out": (store, some, judgement.out, None, judgement.out),
        "baseline_unlike": (other, some, tmp_path / "out", None, judgement.out),
    }.items():
        *place, baseline = arguments
        with pytest.raises(InputError) as caught:
            judge(*place, workers=0, baseline=baseline)
        assert caught.value.code == code
    assert not (tmp_path / "out").exists()


def test_a_job_is_judged_by_what_it_lists(store: str, folders: dict[str, Path], tmp_path: Path) -> None:
    """Pieces that earlier jobs left in the folder are not its own."""
    folder = Path(shutil.copytree(folders[HOSTILE], tmp_path / "made"))
    listed = [{"midi": path.name} for path in sorted(folder.glob("*.mid"))[:2]]
    trained = {"version": "v1", "digest": "another"}
    (folder / LISTING).write_text(json.dumps({"renders": listed, "checkpoint": {"dataset": trained}}))
    result = judge(store, {"made": folder}, tmp_path / "out", workers=0)
    (system,) = json.loads(Path(result.out, JUDGEMENT).read_text())["systems"]
    assert (result.pieces, system["pieces"], system["trained_on"]) == (2, 2, trained)
    page = Path(write_report(ReportInputs(store_url=store, evaluation=result.out, external={"made": folder}), tmp_path))
    assert "“made” learnt from another data set" in page.read_text()
    odd = ("{}", '{"renders": 3}', '{"renders": [{"midi": 3}]}', '{"renders": [], "checkpoint": {"dataset": 3}}', "[]")
    for content in odd:
        (folder / LISTING).write_text(content)
        with pytest.raises(InputError, match="is damaged"):
            judge(store, {"made": folder}, tmp_path / "out", workers=0)
    (folder / LISTING).rename(folder / JOURNAL)
    with pytest.raises(InputError, match="a job has not ended there"):
        judge(store, {"made": folder}, tmp_path / "out", workers=0)


def test_a_system_that_cannot_be_read_stays(store: str, folders: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.mid").write_bytes(b"")
    made = {"broken": tmp_path / "broken", "noise": folders["noise"]}
    result = judge(store, made, tmp_path / "out", workers=0)
    assert (figure(result, "broken", "overlap_area"), figure(result, "broken", "filled")) == (0, 0)
    text = Path(write_report(ReportInputs(store_url=store, evaluation=result.out, external=made), tmp_path)).read_text()
    assert "broken" in text


def test_what_cannot_be_judged(store: str, folders: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.mid").write_bytes(b"")
    publish(str(tmp_path / "codecs"), [made_up_piece("a", seed=1)])
    few = publish_music(str(tmp_path / "few"), {"train": LEARNT[:1], "test": LEARNT[:2]})
    for code, url, wanted in (
        ("nothing_generated", store, {"x": tmp_path / "empty"}),
        ("nothing_generated", store, {"x": tmp_path / "broken"}),
        ("option_invalid", store, {HUMAN: folders["noise"]}),
        ("other_encoding", str(tmp_path / "codecs"), {"x": folders["noise"]}),
        ("no_held_out", few, {"x": folders["noise"]}),
    ):
        with pytest.raises(InputError) as caught:
            judge(url, wanted, tmp_path / "out", workers=0)
        assert caught.value.code == code
    assert not (tmp_path / "out").exists()


def test_the_report_shows_it(store: str, folders: dict[str, Path], judgement: JudgeResult, tmp_path: Path) -> None:
    swapped = {HOSTILE: folders["noise"]}
    worse = judge(store, swapped, tmp_path / "worse", workers=0, baseline=judgement.out)
    page = Path(write_report(ReportInputs(store_url=store, evaluation=worse.out, external=swapped), tmp_path))
    text = page.read_text()
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;" in text
    assert "Worse than baseline" in text
    assert "Lost: noise, copier." in text
    assert "broken.mid" in text
    assert text.count("<figure>") >= 3
    assert ("<audio" in text) is not bool(why_silent())


def test_a_report_of_pieces_that_are_gone(store: str, judgement: JudgeResult, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    inputs = ReportInputs(store_url=store, evaluation=judgement.out, external={"noise": tmp_path / "empty"})
    text = Path(write_report(inputs, tmp_path)).read_text()
    assert "Overlap area" in text
    assert "<audio" not in text


def test_music_and_judgement_at_s3(
    judgement: JudgeResult, store: str, folders: dict[str, Path], moto_bucket: str
) -> None:
    for folder in folders.values():
        for name in names(folder):
            write(join(moto_bucket, folder.name, name), (folder / name).read_bytes())
    there = {system: join(moto_bucket, folder.name) for system, folder in folders.items()}
    first = judge(store, there, join(moto_bucket, "judged"), workers=0)
    assert first.digest == judgement.digest
    again = judge(store, there, join(moto_bucket, "again"), workers=0, baseline=first.out)
    assert again.regression is not None
    assert again.regression["passed"]


@pytest.mark.cluster
def test_workers_find_the_same(judgement: JudgeResult, store: str, folders: dict[str, Path], tmp_path: Path) -> None:
    assert judge(store, folders, tmp_path, workers=2).digest == judgement.digest

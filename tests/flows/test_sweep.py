"""``dexter sweep`` as people use it: one command, told before, resumed after, one page to choose by."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from made_up_renders import made_up_piece, publish
from prefect_api import Server, send
from tiny_models import write_random_checkpoint
from typer.testing import CliRunner

from dexter_model.errors import InputError
from dexter_model.expression.config import DiffusionConfig
from dexter_model.metrics.tables import measures_frame
from dexter_model.training.checkpoint import load_checkpoint
from flows.cli import app
from flows.configuration import load
from flows.parameters import SweepParameters
from flows.sweep import planned, sweep
from tasks.report import ReportInputs, write_report
from tasks.sweep import Setting, compare_sweep

PIECES = [made_up_piece(key, seed=seed) for seed, key in enumerate("ab", start=1)]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store, two checkpoints in runs of one name, and a grid over both and over the depth of transfer."""
    folder = tmp_path_factory.mktemp("lab")
    publish(str(folder / "store"), PIECES)
    for parent in "xy":
        write_random_checkpoint(folder / parent / "model", scale=0.02 if parent == "x" else 0.2)
    (folder / "sweep.yaml").write_text(
        f"grid: {{depth: [0.25, 1.0], checkpoint: [{folder}/x/model, {folder}/y/model]}}\n"
        f"render: {{store: {folder}/store, split: {split_of(folder)}, source: '0', guidance: 1.0, steps: 2}}\n"
    )
    return folder


def split_of(folder: Path) -> str:
    from dexter_model.dataset.store import open_version

    return str(open_version(str(folder / "store")).catalogue["split"][0])


def name_of(checkpoint: Path, run: str = "model", step: int = 0) -> str:
    """What a sweep calls a checkpoint."""
    return f"{run}-step{step}-{load_checkpoint(checkpoint).digest[:8]}"


@pytest.fixture(autouse=True)
def _silent(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Pages without sound: synthesis is tested elsewhere, and takes longer than all else here."""
    if not request.node.get_closest_marker("cluster"):
        monkeypatch.setenv("PATH", "")


def dexter(lab: Path, *words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["sweep", str(lab / "sweep.yaml"), "--out", str(lab / "out"), *words])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


def test_one_command_renders_evaluates_and_compares(lab: Path) -> None:
    code, said = dexter(lab, "--dry-run")
    assert code == 0
    assert not (lab / "out").exists()
    assert said.count("\tnew") == 4
    x, y = (name_of(lab / parent / "model") for parent in "xy")
    assert f"depth=0.25,checkpoint={y}\t2 function evaluations\tnew" in said

    code, said = dexter(lab)
    assert code == 0
    assert said.count(" made now") == 4
    content = json.loads((lab / "out" / "sweep.json").read_text())
    names = [row["system"] for row in content["comparison"]["rows"]]
    assert names == [f"depth={depth},checkpoint={model}" for depth in ("0.25", "1") for model in (x, y)]
    assert content["grid"]["checkpoint"] == [x, y]
    assert content["comparison"]["best"] in names
    assert str(lab) not in (lab / "out" / "sweep.json").read_text()
    page = (lab / "out" / "report.html").read_text()
    assert page.index('id="sweep"') < page.index('id="denoising"') < page.index('id="examples"')
    assert "image/webp" in page
    (table,) = json.loads((lab / "out" / "evaluation" / "evaluation.json").read_text())["tables"]
    published = table["settings"]
    assert len(published) == 2 * 3  # two checkpoints, three measures
    assert all(table["heading"] in page for table in published)
    assert all([row["label"] for row in table["rows"]] == ["f = 0.25", "f = 1"] for table in published)
    assert all(row["cells"][-2] for table in published for row in table["rows"])  # velocity curve; "paper" is empty
    assert "Transfer depth f (checkpoint random " in page
    assert "articulation_<wbr>feature.<wbr>kor" in page
    assert "\u200b" not in page  # it would be copied and searched along
    assert re.search(r"Best: depth=[\d.]+, checkpoint=model-step0", page)


def test_what_is_rendered_is_kept_and_a_setting_that_cannot_be_is_told(lab: Path) -> None:
    before = (lab / "out" / "sweep.json").read_bytes()
    code, said = dexter(lab)
    assert (code, said.count("(0 made now)")) == (0, 4)
    assert (lab / "out" / "sweep.json").read_bytes() == before
    code, said = dexter(lab, "--dry-run", "-s", "grid.depth=[0.25, 0.5, 1.0]")
    assert said.count("1 there") == 4
    for one in "xy":  # whatever else is in the grid
        code, said = dexter(lab, "--dry-run", "-s", f"grid.checkpoint=[{lab}/{one}/model]")
        assert said.count("1 there") == 2
    some = f"grid.checkpoint=[{lab}/x/model, {lab}/nowhere]"
    code, said = dexter(lab, "--dry-run", "-s", some)
    assert (code, said.count("refused (checkpoint_unreadable)")) == (0, 2)
    code, said = dexter(lab, "-s", some)
    assert code == 4
    assert said.index("refused (checkpoint_unreadable)") < said.index("-- 1 of 2")  # before any work
    content = json.loads((lab / "out" / "sweep.json").read_text())
    assert [row["name"] for row in content["refused"]] == [
        "depth=0.25,checkpoint=nowhere",
        "depth=1,checkpoint=nowhere",
    ]
    assert "could not be rendered" in (lab / "out" / "report.html").read_text()


def test_nothing_that_can_be_rendered_is_an_error(lab: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        dexter(lab, "-s", f"grid.checkpoint=[{lab}/nowhere]")


def test_steps_that_a_checkpoint_does_not_have_are_told_before_any_work(lab: Path, tmp_path: Path) -> None:
    few = write_random_checkpoint(tmp_path / "few", diffusion=DiffusionConfig(steps=6))
    words = ["-s", f"grid.checkpoint=[{few}]", "-s", "grid.depth=[1.0]", "--out", str(tmp_path / "out"), "-s"]
    for dry in ([], ["--dry-run"]):
        with pytest.raises(InputError, match="50 is more than the checkpoint's diffusion has"):
            dexter(lab, *words, "grid.steps=[50]", *dry)
    assert not (tmp_path / "out").exists()
    code, said = dexter(lab, *words, "grid.steps=[3, 50]", "--dry-run")
    assert "steps=50\trefused (option_invalid)" in said
    code, said = dexter(lab, *words, "grid.steps=[3, 50]")
    assert code == 4
    page = (tmp_path / "out" / "report.html").read_text()
    assert "sampled in 6 steps" in page  # the sampler at work, in as many as there are


def test_a_conditional_mean_costs_one_evaluation(lab: Path, tmp_path: Path) -> None:
    mean = write_random_checkpoint(tmp_path / "mean", target="mean")
    parameters = {"grid": {"steps": [5, 20], "guidance": [1.0, 2.0]}, "out": str(tmp_path / "out")}
    render = {"store": str(lab / "store"), "split": split_of(lab), "checkpoint": str(mean), "steps": 2}
    result = sweep(load(SweepParameters, options={**parameters, "render": render}))
    rows = result.content["comparison"]["rows"]
    assert [row["cost"] for row in rows] == [1] * 4
    page = Path(result.out) / "report.html"
    assert re.search(r'guidance=2.*?<td class="r">1</td>', page.read_text(), re.DOTALL)


def test_an_evaluation_without_a_figure_leaves_a_page(tmp_path: Path) -> None:
    evaluation = tmp_path / "evaluation"
    evaluation.mkdir()
    measures_frame([]).write_parquet(evaluation / "measures.parquet")
    (evaluation / "evaluation.json").write_text('{"tables": []}')
    found = compare_sweep({"steps": [2]}, [Setting("steps=2", {"steps": 2}, 2)], [], evaluation, tmp_path)
    assert found["comparison"] == {"rows": [], "best": None, "frugal": None}
    assert "No setting could be compared." in Path(write_report(ReportInputs(sweep=tmp_path), tmp_path)).read_text()


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        (["x/run/best"], ["run-step3-x"]),
        (["x/run/checkpoints/step_00000002", "x/run/best", "x/run"], ["run-step2-x", "run-step3-x", "run-step2-x_2"]),
        (["y/run/best", "x/run/best", None], ["run-step3-y", "run-step3-x", "default-step"]),
        (["x/run/best", "x/nowhere/best"], ["run-step3-x", "best"]),
    ],
)
def test_checkpoints_are_called_by_their_run_step_and_digest(
    tmp_path: Path, paths: list[str | None], words: list[str]
) -> None:
    digests = {}
    for run, scale in (("x", 0.02), ("y", 0.2)):
        for folder, step in (("best", 3), ("checkpoints/step_00000002", 2)):
            checkpoint = write_random_checkpoint(tmp_path / run / "run" / folder, scale=scale)
            digests[run] = load_checkpoint(checkpoint).digest[:8]
            meta = json.loads((checkpoint / "checkpoint.json").read_text())
            (checkpoint / "checkpoint.json").write_text(json.dumps(meta | {"step": step}))
    given = [path and str(tmp_path / path) for path in paths]
    options = {"grid": {"checkpoint": given}, "out": "o", "render": {"store": "s3://bucket/data"}}
    found = [plan.setting.values["checkpoint"] for plan in planned(load(SweepParameters, options=options))]
    wanted = [re.sub("(?<=-)[xy]", lambda run: digests[run[0]], word) for word in words]
    assert [name[: len(word)] for name, word in zip(found, wanted, strict=True)] == wanted


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("grid.checkpoint=[7]", "checkpoint"),
        ("grid.stepps=[3]", "stepps"),
        ("grid.steps=[0]", "steps"),
        ("grid.steps=[]", "grid.steps"),
        ("grid.split=[test, train]", "split must be the same"),
        ("render.scores=[a.mxl]", "store"),
        ("grid={}", "grid"),
    ],
)
def test_a_grid_that_makes_no_sense(lab: Path, override: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        dexter(lab, "--dry-run", "-s", override)


def test_workers_are_those_of_each_stage_that_does_not_say_its_own() -> None:
    for words, workers in (((), None), (("workers=0",), 0), (("workers=0", "render.workers=2"), 2)):
        assert load(SweepParameters, None, words).render.workers == workers


def test_any_parameter_of_rendering_can_be_swept() -> None:
    grid = {"seed": [1, 2], "samples": [1, 3], "guidance": [1.0, 2.5], "checkpoint": [None, "a/b/step_100"]}
    parameters = load(
        SweepParameters, options={"grid": grid, "out": "o", "render": {"store": "s3://bucket/data", "steps": 20}}
    )
    plans = planned(parameters)
    assert len(plans) == len({plan.render.out for plan in plans}) == 16
    assert plans[-1].setting.name == "seed=2,samples=3,guidance=2.5,checkpoint=step_100"
    assert plans[-1].render.model_dump(include={"seed", "samples", "guidance", "checkpoint", "store", "out"}) == {
        "seed": 2,
        "samples": 3,
        "guidance": 2.5,
        "checkpoint": "a/b/step_100",
        "store": "s3://bucket/data",
        "out": "o/renders/seed=2,samples=3,guidance=2.5,checkpoint=step_100",
    }
    assert [plan.setting.evaluations for plan in plans[:4]] == [20, 0, 40, 0]
    assert [plan.refusal is None for plan in plans[:2]] == [True, False]
    assert plans[0].render.checkpoint is None


@pytest.mark.cluster
def test_a_sweep_is_a_run_of_a_prefect_server(lab: Path, tmp_path: Path, prefect_server: Server) -> None:
    one = ["-s", "grid.depth=[0.5]", "-s", f"grid.checkpoint=[{lab}/y/model]"]
    words = ["sweep", str(lab / "sweep.yaml"), "--out", str(tmp_path / "out"), *one]
    environment = {**os.environ, "PREFECT_API_URL": prefect_server.url, "PATH": ""}  # without sound, as above
    command, began = [sys.executable, "-m", "flows.cli", *words], datetime.now(UTC)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    runs, artifacts = prefect_server.since(began)
    states = {run["name"].partition(" ")[0]: run["state_type"] for run in runs}
    assert states == dict.fromkeys(("sweep", "render", "evaluate"), "COMPLETED")
    assert f"| depth=0.5,checkpoint={name_of(lab / 'y' / 'model')} |" in artifacts["sweep"]
    assert "report.html" in artifacts["report"]
    held = [each["name"] for each in send(prefect_server.url, "v2/concurrency_limits/filter", {})]
    assert any(name.startswith("writer-of-out-") for name in held)
    assert not any("depth" in name for name in held)  # who holds the sweep's folder holds its renders'

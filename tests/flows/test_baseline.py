"""A run that is worse than its baseline, as people and schedulers meet it: exit code, files, page, Prefect state."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path

import pytest
from made_up_renders import made_up_piece, publish, write_renders
from typer.testing import CliRunner

from flows.cli import app, main
from flows.parameters import EvaluateParameters
from flows.stages import evaluated

PIECES = [made_up_piece(key, seed=seed) for seed, key in enumerate("abcd", start=1)]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store, renders, worse renders (they shape nothing), and the evaluation of the good ones."""
    folder = tmp_path_factory.mktemp("lab")
    publish(str(folder / "store"), PIECES)
    write_renders(folder / "good" / "renders", PIECES)
    write_renders(folder / "bad" / "renders", PIECES, shapeless=True)
    evaluated = CliRunner().invoke(app, words(folder, "good", "before"))
    assert evaluated.exit_code == 0
    return folder


@pytest.fixture(autouse=True)
def _silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without sound: synthesis is tested elsewhere, and takes longer than all else here."""
    monkeypatch.setenv("PATH", "")


def words(lab: Path, renders: str, out: str, *more: str) -> list[str]:
    where = ["--store", str(lab / "store"), "--renders", str(lab / renders / "renders"), "--out", str(lab / out)]
    return ["evaluate", *where, *more]


def exit_code(monkeypatch: pytest.MonkeyPatch, command: list[str]) -> int:
    monkeypatch.setattr(sys, "argv", ["dexter", *command])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_the_same_again_is_no_regression(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert exit_code(monkeypatch, words(lab, "good", "again", "--baseline", str(lab / "before"))) == 0
    verdict = json.loads((lab / "again" / "evaluation.json").read_text())["regression"]
    assert verdict["passed"]
    assert {row["change"] for row in verdict["comparisons"]} == {0.0}
    assert verdict["baseline"]["same_data_set"]
    assert "No regression against baseline before" in (lab / "again" / "report.html").read_text()


def test_a_worse_run_exits_with_3_after_everything_is_written(
    lab: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(monkeypatch, words(lab, "bad", "worse", "--baseline", str(lab / "before"))) == 3
    said = capsys.readouterr().err
    assert "dexter: worse than the baseline:" in said
    assert "worst on MADE_UP/" in said
    content = json.loads((lab / "worse" / "evaluation.json").read_text())
    worst = content["regression"]["comparisons"][0]
    assert not content["regression"]["passed"]
    assert worst["verdict"] == "regression"
    assert len(worst["pieces"]) == 4
    assert (lab / "worse" / "measures.parquet").exists()
    page = (lab / "worse" / "report.html").read_text()
    assert page.index("Worse than baseline before") < page.index("<h2>")  # it heads the page
    assert str(lab) not in (lab / "worse" / "evaluation.json").read_text()


def test_a_run_that_lost_a_piece_exits_with_3(
    lab: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    write_renders(tmp_path / "few" / "renders", PIECES)
    (tmp_path / "few" / "renders" / "c_0.npz").write_bytes(b"")
    store = ["--store", str(lab / "store")]
    command = ["evaluate", *store, "--renders", str(tmp_path / "few" / "renders"), "--out"]
    assert exit_code(monkeypatch, [*command, str(tmp_path / "e"), "--baseline", str(lab / "before")]) == 3
    assert "1 of 4 pieces of the baseline have no figures of renders now: MADE_UP/c" in capsys.readouterr().err
    page = (tmp_path / "e" / "report.html").read_text()
    assert page.index("MADE_UP/c. Render them too") < page.index("<h2>")  # it heads the page
    # Refused in both runs, it is not lost: 4 tells that something was refused.
    assert exit_code(monkeypatch, [*command, str(tmp_path / "e2"), "--baseline", str(tmp_path / "e")]) == 4
    for piece in "abd":
        (tmp_path / "few" / "renders" / f"{piece}_0.npz").write_bytes(b"")
    assert exit_code(monkeypatch, [*command, str(tmp_path / "none"), "--baseline", str(lab / "before")]) == 3
    assert "4 of 4 pieces of the baseline have no figures of renders now" in capsys.readouterr().err
    page = (tmp_path / "none" / "report.html").read_text()
    assert "All pieces of baseline before are lost." in page
    assert "Change of every main figure" not in page


def test_the_main_job_reports_before_it_fails(lab: Path) -> None:
    where = {"store": str(lab / "store"), "renders": [str(lab / "bad" / "renders")], "out": str(lab / "job")}
    result, error = evaluated(EvaluateParameters.model_validate({**where, "baseline": str(lab / "before")}))
    assert error is not None
    assert len(result.digest) == 64
    assert copy.copy(error).told == error.told  # Prefect stores and restores it the same way
    result, error = evaluated(EvaluateParameters.model_validate({**where, "out": str(lab / "alone")}))
    assert (result.regression, error) == (None, None)


def test_a_wide_tolerance_lets_it_pass(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = [f"-stolerance.{kind}=100" for kind in ("correlation", "velocity_error", "spread")]
    assert exit_code(monkeypatch, words(lab, "bad", "wide", "--baseline", str(lab / "before"), *wide)) == 0


@pytest.mark.parametrize(
    ("baseline", "told"),
    [("good", "not an evaluation"), ("nowhere", "not an evaluation"), ("out", "would be overwritten")],
)
def test_a_baseline_that_is_none(
    lab: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], baseline: str, told: str
) -> None:
    assert exit_code(monkeypatch, words(lab, "good", "out", "--baseline", str(lab / baseline))) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("option", ["renders", "=folder", "name=", "human=folder"])
def test_external_renderers_have_a_name_and_a_folder(
    lab: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    assert exit_code(monkeypatch, words(lab, "good", "out", "--external", option)) == 2
    assert f"--external {option.partition('=')[0]}" in capsys.readouterr().err

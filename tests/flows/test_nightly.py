"""Nights one after the other, as a person runs them: history, the accepted night, a regression, a dry run."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from made_up_music import music, write_music
from tiny_models import write_random_checkpoint, write_random_generator

from flows import nightly
from flows.cli import main
from flows.configuration import load
from flows.parameters import NightlyParameters


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lab")
    write_random_checkpoint(folder / "model")
    content = {
        "out": str(folder / "nightly"),
        "build": {"perceptual": "none", "store": str(folder / "set")},
        "render": {"checkpoint": str(folder / "model"), "steps": 2},
        "workers": 0,
    }
    (folder / "nightly.yaml").write_text(json.dumps(content))
    return folder


@pytest.fixture(autouse=True)
def _silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without sound: synthesis is tested elsewhere."""
    monkeypatch.setenv("PATH", "")


def exit_code(monkeypatch: pytest.MonkeyPatch, lab: Path, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["dexter", "nightly", str(lab / "nightly.yaml"), *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def history(lab: Path) -> dict[str, object]:
    return json.loads((lab / "nightly" / "nights.json").read_text())


def test_nights_are_held_against_the_accepted_one(
    lab: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(monkeypatch, lab, "--dry-run") == 0
    told = capsys.readouterr().out
    assert "it would be the first" in told
    assert not (lab / "nightly").exists()
    assert exit_code(monkeypatch, lab, "--accept") == 2
    assert "Run `dexter nightly` first" in capsys.readouterr().err

    assert exit_code(monkeypatch, lab) == 0
    first = history(lab)["accepted"]
    page = Path(capsys.readouterr().out.splitlines()[-1])
    assert page == lab / "nightly" / "nights" / str(first) / "report.html"

    assert exit_code(monkeypatch, lab) == 0
    evaluations = [(night / "evaluation" / "measures.parquet").read_bytes() for night in nights(lab)]
    assert len(evaluations) == 2
    assert evaluations[0] == evaluations[1]

    assert exit_code(monkeypatch, lab, "-s", "render.pieces=[DEMO/synthetic/bach*]") == 3
    assert "worse than the baseline" in capsys.readouterr().err
    told = history(lab)
    assert [row["verdict"] for row in told["nights"]] == ["first", "passed", "regression"]  # type: ignore[attr-defined]
    assert told["accepted"] == first
    assert "regression" in json.loads((nights(lab)[2] / "run.json").read_text())["verdict"]

    assert exit_code(monkeypatch, lab, "--accept") == 0
    assert capsys.readouterr().out.strip() == history(lab)["accepted"] == nights(lab)[2].name


def test_a_first_night_that_is_worse_than_its_baseline_is_not_accepted(
    lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The baseline is a night of the tests above, which had all pieces."""
    whole = lab / "nightly" / "nights" / str(history(lab)["nights"][0]["name"])  # type: ignore[index]
    words = ["--out", str(tmp_path), "-s", f"baseline={whole}"]
    assert exit_code(monkeypatch, lab, *words, "-s", "render.pieces=[DEMO/synthetic/bach*]") == 3
    told = json.loads((tmp_path / "nights.json").read_text())
    assert (told["accepted"], [row["verdict"] for row in told["nights"]]) == (None, ["regression"])
    assert exit_code(monkeypatch, lab, *words) == 0
    told = json.loads((tmp_path / "nights.json").read_text())
    assert [row["verdict"] for row in told["nights"]] == ["regression", "passed"]
    assert told["accepted"] == told["nights"][1]["name"]


def nights(lab: Path) -> list[Path]:
    """The folders of finished nights, the oldest first."""
    return [lab / "nightly" / "nights" / row["name"] for row in history(lab)["nights"]]  # type: ignore[attr-defined]


def test_a_damaged_history_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nights.json").write_text('{"accepted": "no such night", "nights": []}')
    monkeypatch.setattr(sys, "argv", ["dexter", "nightly", "--accept", "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2


def test_a_night_renders_the_data_set_that_it_builds() -> None:
    parameters = load(NightlyParameters, None, ("build.store=s3://lab/set", "render.steps=3"))
    assert parameters.render.store == "s3://lab/set"
    assert (parameters.workers, parameters.build.workers, parameters.render.workers) == (None, None, None)
    parameters = load(NightlyParameters, None, ("workers=0", "render.workers=2"))
    assert (parameters.workers, parameters.build.workers, parameters.render.workers) == (0, 0, 2)
    with pytest.raises(Exception, match="leave out scores and version"):
        load(NightlyParameters, None, ("render.version=v1",))


def test_a_night_that_was_interrupted_keeps_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nightly, "code_version", lambda: "0.1.0+abc")
    name = nightly.begun({"accepted": None, "nights": []})
    assert name == nightly.begun({"accepted": None, "nights": []})
    assert name.endswith("_abc")
    assert nightly.begun({"accepted": name, "nights": [{"name": name}]}) == f"{name}_2"


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nights of a generator, beside made-up music."""
    folder = tmp_path_factory.mktemp("studio")
    write_random_generator(folder / "model", "performance_rnn")
    write_music(folder / "midi", [music(seed, 40.0) for seed in range(60)])
    content = {
        "out": str(folder / "nightly"),
        "build": {"corpora": ["MIDI"], "data_root": str(folder / "midi"), "store": str(folder / "set")},
        "generate": {"system": "performance_rnn", "checkpoint": str(folder / "model"), "pieces": 6},
        "workers": 0,
    }
    content["generate"]["how"] = {"num_steps": 3000, "constrained": True}  # type: ignore[index]
    (folder / "nightly.yaml").write_text(json.dumps(content))
    return folder


def test_nights_of_a_generator(
    studio: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(monkeypatch, studio, "--dry-run") == 0
    assert "makes 6 pieces by performance_rnn" in capsys.readouterr().out
    assert exit_code(monkeypatch, studio) == 0
    assert exit_code(monkeypatch, studio) == 0
    judgements = [(night / "evaluation" / "draws.parquet").read_bytes() for night in nights(studio)]
    assert len(judgements) == 2
    assert judgements[0] == judgements[1]
    assert exit_code(monkeypatch, studio, "-s", "generate.how.num_steps=400") == 3  # too short for an excerpt
    assert "Share of excerpts with notes enough of renders" in capsys.readouterr().err
    told = history(studio)
    assert [row["verdict"] for row in told["nights"]] == ["first", "passed", "regression"]  # type: ignore[attr-defined]
    assert "Worse than baseline" in (nights(studio)[2] / "report.html").read_text()


def test_a_night_of_a_generator_hears_performances() -> None:
    parameters = load(NightlyParameters, None, ("generate.system=composer", "generate.pieces=3", "build.store=set"))
    assert parameters.build.encoding == "notes"
    assert (parameters.generate.pieces, parameters.build.store) == (3, "set")  # type: ignore[union-attr]
    with pytest.raises(Exception, match="codec for nights that render"):
        load(NightlyParameters, None, ("build.encoding=notes",))

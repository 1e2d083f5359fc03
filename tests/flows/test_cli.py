"""The command line as a person meets it: help that teaches, one clear sentence for bad input, cheap commands cheap."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from flows.cli import app, main


def packaged(package: str, *inside: str) -> Path:
    """A file that ships inside a package, found without importing it."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]).joinpath(*inside)


SCORE = packaged("music21", "corpus", "bach", "bwv66.6.mxl")
MATCH = packaged("parangonar", "assets", "mozart_k265_var1.match")


def commands(group: typer.core.TyperGroup, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for name, command in group.commands.items():
        inner = isinstance(command, typer.core.TyperGroup)
        found += commands(command, (*path, name)) if inner else [(*path, name)]
    return found


ALL = commands(typer.main.get_command(app))  # type: ignore[arg-type]


def dexter(*words: object) -> tuple[int, str]:
    """Run a command in this process; exit code and what it wrote on both streams."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


def refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: object) -> str:
    """The one line that a command that must fail with exit code 2 says."""
    monkeypatch.setattr(sys, "argv", ["dexter", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("dexter: ")]
    assert len(said) == 1
    return said[0]


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_explains_itself_and_all_its_options(path: tuple[str, ...]) -> None:
    command = typer.main.get_command(app)
    for name in path:
        assert isinstance(command, typer.core.TyperGroup)
        command = command.commands[name]
    assert command.help
    assert all(getattr(option, "help", None) for option in command.params)
    assert dexter(*path, "--help")[0] == 0


def test_the_readme_shows_every_command() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    assert [path for path in ALL if f"dexter {' '.join(path)}" not in readme] == []


def test_encode_and_decode_give_the_performance_back(tmp_path: Path) -> None:
    from dexter_model.reading.match import load_match
    from dexter_model.reading.midi import load_midi

    codec, midi = tmp_path / "codec.npz", tmp_path / "performance.mid"
    assert dexter("encode", MATCH, "--score", MATCH, "--out", codec)[0] == 0
    with np.load(codec) as file:
        rows, matched = len(file["note_id"]), file["matched"]
        assert {file[name].shape for name in ("p_codec", "s_codec", "matched")} == {(rows, 5), (rows, 4), (rows,)}
    assert dexter("decode", codec, "--score", MATCH, "--out", midi)[0] == 0
    performed, _ = load_match(MATCH)
    decoded = load_midi(midi)
    assert len(decoded.notes) == int(matched.sum())
    pitches = sorted(decoded.notes["pitch"].tolist())
    assert len(set(pitches) - set(performed.notes["pitch"].tolist())) == 0


@pytest.mark.parametrize(
    ("words", "absent"),
    [
        (["encode", MATCH, "--score", MATCH, "--out", "codec.npz"], {"prefect", "ray", "torch", "partitura"}),
        (["render", SCORE, "--out", "renders", "--steps", 2], {"prefect", "ray", "partitura"}),
    ],
)
def test_one_file_needs_neither_prefect_nor_ray(words: list[object], absent: set[str], tmp_path: Path) -> None:
    code = "import sys; from flows.cli import main\ntry: main()\nexcept SystemExit as end: assert not end.code\n"
    command = [sys.executable, "-c", f"{code}print(sorted({absent} & set(sys.modules)))", *map(str, words)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_model_that_ships_renders_a_score(tmp_path: Path) -> None:
    from dexter_model.reading.midi import load_midi

    assert dexter("render", SCORE, "--out", tmp_path, "--steps", 4)[0] == 0
    listing = json.loads((tmp_path / "renders.json").read_text())
    (render,) = listing["renders"]
    assert listing["checkpoint"]["label"] == "default"
    notes = load_midi(tmp_path / render["midi"]).notes
    assert len(notes) == render["notes"]
    assert 10 < render["duration_sec"] < 120
    assert notes["velocity"].std() > 3


def test_a_corpus_is_encoded_under_its_own_paths_and_the_rest_goes_on(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "good.match").write_bytes(MATCH.read_bytes())
    (corpus / "bad.match").write_text("this is no match file\n")
    out = tmp_path / "codecs"
    exit_code, said = dexter("encode", "--corpus", "FOLDER", "--data-root", corpus, "--out", out)
    assert exit_code == 4
    assert [str(path.relative_to(out)) for path in out.rglob("*.npz")] == ["good.match.npz"]
    assert "1 encoded, 1 quarantined" in said
    assert "bad.match" in said


def test_corpora_are_checked_all_at_once_or_by_name(tmp_path: Path) -> None:
    exit_code, said = dexter("corpora", "check", "--datasets-root", tmp_path)
    assert exit_code == 4
    assert "MUSIC21: " in said
    assert f"{tmp_path}/vienna4x22" in said.replace("\n", "")
    assert dexter("corpora", "check", "MUSIC21")[0] == 0


def test_messages_show_brackets_as_they_are(tmp_path: Path) -> None:
    codec = tmp_path / "codec [v1].npz"
    assert "codec [v1].npz: " in dexter("encode", MATCH, "--score", MATCH, "--out", codec)[1].replace("\n", "")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["encode"], "needs a performance or --corpus"),
        (["encode", MATCH, "--score", MATCH, "--out", "gs://bucket/codec.npz"], "neither a path nor s3://bucket"),
        (["encode", MATCH, "--score", MATCH, "--out", "."], "Check the path"),
        (["run", "-s", "build=3"], "build"),
        (["dataset", "build", "--corpus", "MUSIC21"], "MUSIC21"),
        (["encode", MATCH], "--score"),
        (["encode", "no-such.match", "--score", MATCH], "no-such.match"),
        (["decode", SCORE, "--score", SCORE, "--out", "x.mid"], "bwv66.6.mxl"),
        (["corpora", "check", "NONESUCH"], "VIENNA422"),
        (["dataset", "info", "no-such-store"], "no-such-store"),
        (["render", "no-such-score.xml"], "no-such-score.xml"),
        (["render"], "name scores to render"),
        (["run", "no-such.yaml"], "no-such.yaml"),
        (["train", "-s", "training.steps=soon"], "training.steps"),
        (["train", "-s", "training.stepps=3"], "stepps"),
        (["train", "-s", "nonsense"], "key=value"),
        (["evaluate", "--store", "no-such-store", "--renders", "nowhere"], "no-such-store"),
    ],
)
def test_bad_input_is_one_sentence_that_names_it(
    words: list[object], told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert told in refused(capsys, monkeypatch, *words)


def test_a_dry_run_shows_what_would_run_and_writes_nothing(tmp_path: Path) -> None:
    corpus, store = tmp_path / "corpus", tmp_path / "store"
    corpus.mkdir()
    (corpus / "piece.match").write_bytes(MATCH.read_bytes())
    words = ["dataset", "build", "--corpus", "FOLDER", "--data-root", corpus, "--store", store, "--workers", 0]
    exit_code, said = dexter(*words, "--dry-run")
    assert (exit_code, store.exists()) == (0, False)
    assert "new" in said


def test_a_data_set_is_built_described_and_its_quarantine_listed(tmp_path: Path) -> None:
    corpus, store = tmp_path / "corpus", tmp_path / "store"
    corpus.mkdir()
    (corpus / "good.match").write_bytes(MATCH.read_bytes())
    (corpus / "empty.match").write_bytes(b"")
    words = ["dataset", "build", "--corpus", "FOLDER", "--data-root", corpus, "--store", store, "--workers", 0]
    assert "1 performances built + 1 quarantined = 2 discovered" in dexter(*words)[1]
    assert "2 unchanged" in dexter(*words)[1]
    facts = json.loads(dexter("dataset", "info", store, "--json")[1])
    assert (facts["version"], facts["performances"], facts["quarantined"]) == ("v1", 1, 1)
    assert "good" not in dexter("dataset", "quarantine", store)[1]
    (row,) = json.loads(dexter("dataset", "quarantine", store, "--json")[1])
    assert row["performance"] == "empty.match"
    assert row["remedy"]
    assert len(row["digest"]) == 64

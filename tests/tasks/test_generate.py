"""Generating in bulk: the same files however the job is cut up, interrupted or spread."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pretty_midi
import pytest
from tiny_models import write_random_checkpoint, write_random_generator

from dexter_model.composer.plan import Composing
from dexter_model.errors import InputError
from dexter_model.performance_rnn.settings import GenerationSettings
from dexter_model.reading.recording import load_recording
from dexter_model.systems import GENERATORS, default_model
from tasks.generate import GenerateSettings, generate

HOW = {"performance_rnn": GenerationSettings(num_steps=400), "composer": Composing(steps=4)}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {system: write_random_generator(folder / system, system) for system in GENERATORS}


def settings_of(system: str, models: dict[str, Path]) -> GenerateSettings:
    return GenerateSettings(system, models[system], pieces=5, batch_size=2, workers=0, how=HOW[system])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("system", GENERATORS)
def test_what_is_missing_alone_is_made_again_with_the_same_bytes(
    system: str, models: dict[str, Path], tmp_path: Path
) -> None:
    settings = settings_of(system, models)
    first = generate(tmp_path, settings)
    whole = contents(tmp_path)
    assert first.made == 5
    assert sorted(whole) == [*(f"{system}_{number:04}.mid" for number in range(1, 6)), "renders.json"]
    assert len({data for name, data in whole.items() if name.endswith(".mid")}) == 5
    (tmp_path / f"{system}_0002.mid").unlink()
    (tmp_path / f"{system}_0005.mid").write_bytes(b"broken")
    assert generate(tmp_path, settings).made == 2
    assert contents(tmp_path) == whole
    assert generate(tmp_path, replace(settings, seed=7)).made == 5
    assert contents(tmp_path) != whole


@pytest.mark.parametrize(("system", "made"), [("composer", 1), ("performance_rnn", 2)])
def test_one_piece_more_makes_its_batch_again_only_where_pieces_depend_on_it(
    system: str, made: int, models: dict[str, Path], tmp_path: Path
) -> None:
    settings = settings_of(system, models)
    generate(tmp_path / "grown", settings)
    assert generate(tmp_path / "grown", replace(settings, pieces=6)).made == made
    generate(tmp_path / "whole", replace(settings, pieces=6))
    assert contents(tmp_path / "grown") == contents(tmp_path / "whole")


@pytest.mark.parametrize("system", GENERATORS)
def test_what_is_written_can_be_read(system: str, models: dict[str, Path], tmp_path: Path) -> None:
    result = generate(tmp_path, settings_of(system, models))
    listing = json.loads((tmp_path / "renders.json").read_text())
    assert listing["system"] == system
    assert listing["checkpoint"] == {**result.checkpoint, "dataset": {"version": "none", "digest": "none"}}
    for row in listing["renders"]:
        notes = load_recording(str(tmp_path / row["midi"])) if row["notes"] else []
        assert len(notes) <= row["notes"]  # of an untrained network, notes of one pitch may overlap
        assert not len(notes) or notes["offset_sec"].max() <= row["duration_sec"] + 0.01


@pytest.mark.cluster
@pytest.mark.parametrize("system", GENERATORS)
def test_workers_make_the_same_files(system: str, models: dict[str, Path], tmp_path: Path) -> None:
    settings = settings_of(system, models)
    generate(tmp_path / "here", settings)
    generate(tmp_path / "spread", replace(settings, workers=2))
    assert contents(tmp_path / "here") == contents(tmp_path / "spread")


def test_a_primer_counts_by_what_it_holds(models: dict[str, Path], tmp_path: Path) -> None:
    def write(name: str, pitch: int) -> Path:
        music, piano = pretty_midi.PrettyMIDI(), pretty_midi.Instrument(0)
        piano.notes.append(pretty_midi.Note(80, pitch, 0.0, 0.5))
        music.instruments.append(piano)
        music.write(str(tmp_path / name))
        return tmp_path / name

    primer = write("primer.mid", 60)
    settings = settings_of("performance_rnn", models)
    settings = replace(settings, how=GenerationSettings(num_steps=200, primer_midi=str(primer)))
    assert generate(tmp_path / "out", settings).made == 5
    moved = replace(settings, how=replace(settings.how, primer_midi=str(primer.rename(tmp_path / "moved.mid"))))
    assert generate(tmp_path / "out", moved).made == 0
    write("moved.mid", 72)
    assert generate(tmp_path / "out", moved).made == 5
    assert load_recording(str(tmp_path / "out" / "performance_rnn_0001.mid"))["pitch"][0] == 72
    (tmp_path / "moved.mid").write_bytes(b"no MIDI")
    with pytest.raises(InputError):
        generate(tmp_path / "new", moved)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("system", GENERATORS)
def test_the_models_that_ship_make_music(system: str, tmp_path: Path) -> None:
    """Of trained networks: of random ones few notes end, and none keep to a register."""
    result = generate(tmp_path, GenerateSettings(system, pieces=2))
    assert result.checkpoint["label"] == system.replace("_", "-")
    card = (default_model(system) / "README.md").read_text()
    assert result.checkpoint["digest"][:12] in card
    for row in result.renders:
        notes = load_recording(str(tmp_path / row["midi"]))
        assert row["notes"] >= 100
        assert 0.02 < np.median(notes["offset_sec"] - notes["onset_sec"]) < 2.0
        assert np.ptp(np.quantile(notes["pitch"], [0.1, 0.9])) < 60


def test_clear_errors(models: dict[str, Path], tmp_path: Path) -> None:
    def code(settings: GenerateSettings) -> str:
        with pytest.raises(InputError) as caught:
            generate(tmp_path / "out", settings)
        return caught.value.code

    rnn = settings_of("performance_rnn", models)
    assert code(replace(rnn, checkpoint=models["composer"])) == "checkpoint_unfit"
    assert code(replace(rnn, checkpoint=write_random_checkpoint(tmp_path / "dexter"))) == "checkpoint_unfit"
    assert code(replace(rnn, checkpoint=tmp_path / "nothing")) == "checkpoint_unreadable"
    assert code(replace(rnn, how=GenerationSettings(num_steps=40, primer_pitches=(60,)))) == "primer_too_long"
    assert code(replace(settings_of("composer", models), how=Composing(steps=4000))) == "option_invalid"
    for wrong in ({"pieces": 0}, {"batch_size": 0}):
        with pytest.raises(InputError):
            replace(rnn, **wrong)  # type: ignore[arg-type]
    assert not (tmp_path / "out" / "renders.json").exists()

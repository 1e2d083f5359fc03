"""Both generators through the same flows as DExter: a folder of MIDI files in, pieces out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from made_up_corpora import write_performances

from dexter_model.composer.config import ComposerConfig
from dexter_model.dataset.store import open_version
from dexter_model.errors import InputError
from flows.build import build
from flows.configuration import load_any
from flows.generate import dry_run, generate
from flows.parameters import GENERATION, TRAINING, BuildParameters
from flows.train import train
from tasks.train import describe_training

SMALL = {
    "performance_rnn": ["network.layers=[16]", "training.batch_size=4", "training.validation_examples=4"],
    "composer": ["network.channels=16", "training.batch_size=4", "training.validation_segments=4"],
}
HOW = {"performance_rnn": ["how.num_steps=300"], "composer": ["how.steps=3"]}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("corpus")
    write_performances(folder / "midi")
    (folder / "midi" / "broken.mid").write_bytes(b"MThd and no more")
    told = {"corpora": ["MIDI"], "data_root": str(folder / "midi"), "encoding": "notes", "workers": 0}
    result = build(BuildParameters.model_validate({**told, "store": str(folder / "store")}))
    assert (result.built, result.quarantined, result.codes) == (12, 1, {"performance_unreadable": 1})
    return str(folder / "store")


def test_a_data_set_says_what_it_holds(store: str) -> None:
    opened = open_version(store)
    assert opened.encoder["name"] == "notes"
    assert sum(len(recording.notes) for recording in opened.recordings()) == opened.catalogue["notes"].sum() == 3600
    with pytest.raises(InputError) as caught:
        opened.pieces()
    assert caught.value.code == "other_encoding"
    for system, refused in (("dexter", "other_encoding"), ("composer", "other_reading")):
        overrides = ["data.extraction=reference"] if system == "composer" else []
        with pytest.raises(InputError) as caught:
            describe_training(store, load_any(TRAINING, system, None, overrides, {"system": system}).config())
        assert caught.value.code == refused


@pytest.mark.cluster
@pytest.mark.parametrize("system", SMALL)
def test_from_a_folder_of_midi_to_pieces(system: str, store: str, tmp_path: Path) -> None:
    overrides = [*SMALL[system], "training.steps=2", "training.validate_every=2"]
    given = {"system": system, "store": store, "out": str(tmp_path / "model")}
    trained = train(load_any(TRAINING, "dexter", None, overrides, given))
    assert trained.steps == 2
    assert trained.best == str(tmp_path / "model" / "best")
    assert json.loads((tmp_path / "model" / "best" / "checkpoint.json").read_text())["system"] == system
    asked = {"out": str(tmp_path / "made"), "pieces": 3, "checkpoint": str(tmp_path / "model"), "workers": 0}
    generation = load_any(GENERATION, system, None, HOW[system], asked)
    assert "step 2\n3 pieces in " in dry_run(generation)
    assert not (tmp_path / "made").exists()
    made = generate(generation)
    assert made.made == len(made.renders) == 3
    assert dry_run(generation).endswith(" 3 of them there already")
    assert generate(generation).made == 0


def test_the_originals_config_is_settings_of_training(store: str, tmp_path: Path) -> None:
    config = tmp_path / "config.py"
    config.write_text("VERBOSE = True\nBATCH_SIZE = 8\nEPOCHS = 4\nNOTES_LENGTH = 64\nMAX_DELTA = 960\n")
    parameters = load_any(TRAINING, "dexter", config, [], {"store": store, "out": str(tmp_path / "model")})
    opened = open_version(store)
    segments = sum(len(recording.notes) // 64 for recording in opened.recordings("train"))
    made = parameters.config()
    assert isinstance(made, ComposerConfig)
    assert (made.training.batch_size, made.training.steps) == (8, 4 * -(-segments // 8))
    assert (made.data.extraction, made.data.notes, made.data.longest_delta) == ("reference", 64, 1.0)
    for kinds, system in ((TRAINING, "dexter"), (GENERATION, "composer")):
        with pytest.raises(InputError) as caught:
            load_any(kinds, system, config, [], {"system": system})
        assert caught.value.code == "config_invalid"


def test_an_unknown_system_is_told(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("system: transformer\n")
    with pytest.raises(InputError) as caught:
        load_any(TRAINING, "dexter", tmp_path / "config.yaml")
    assert caught.value.code == "system_unknown"

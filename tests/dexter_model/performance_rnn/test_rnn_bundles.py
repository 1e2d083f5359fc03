"""Bundles of our own and of the original's, made by TensorFlow (``bundles/make_bundle.py``), whole and damaged."""

from __future__ import annotations

import json
import re
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dexter_model.errors import InputError
from dexter_model.performance_rnn.bundle import META, MODEL, load_model, read_bundle, write_bundle
from dexter_model.performance_rnn.config import PUBLISHED, PerformanceRnnConfig
from dexter_model.performance_rnn.generation import generate, load_network
from dexter_model.performance_rnn.magenta_bundle import read_magenta_bundle
from dexter_model.performance_rnn.network import initial_network
from dexter_model.performance_rnn.settings import GenerationSettings
from dexter_model.places import join, shown
from dexter_model.training.checkpoint import Checkpoint, load_checkpoint, write_checkpoint

MAG = Path(__file__).parent / "bundles" / "small.mag"
SAID = json.loads((Path(__file__).parent / "bundles" / "small.json").read_text())


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    config = PerformanceRnnConfig(replace(PUBLISHED["density_conditioned_performance_with_dynamics"], layers=(6,)))
    state = {name: value.numpy() for name, value in initial_network(config.network, 2).state_dict().items()}
    meta = {"label": "small", "config": config.to_dict(), "statistics": {"mean": [], "std": []}, "dataset": {"n": 1}}
    write_checkpoint(
        tmp_path / "checkpoint", state, {**meta, "step": 5, "history": [[2, 4.0, 3.0, 2.5], [5, 3.0, None, None]]}
    )
    return load_checkpoint(tmp_path / "checkpoint")


def test_what_tensorflow_wrote_is_read() -> None:
    bundle = read_magenta_bundle(MAG)
    assert (bundle.id, bundle.description) == ("performance_with_dynamics", "Random weights")
    assert bundle.tensors["rnn/multi_rnn_cell/cell_0/basic_lstm_cell/kernel"].shape == (392, 16)
    assert "fully_connected/biases/Adam" in bundle.tensors
    assert "global_step" not in bundle.tensors


def test_a_published_network_says_what_tensorflow_says() -> None:
    network = load_network(load_model(MAG)).double()
    with torch.no_grad():
        logits = network(torch.tensor(SAID["events"])[None, :, None], torch.zeros(1, len(SAID["events"]), 0))[0]
    np.testing.assert_allclose(logits[:, :8], SAID["logits"], atol=2e-5)
    assert generate(network, GenerationSettings(num_steps=300), [1])[0].start == 1


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_published_bundles_are_refused(data: st.DataObject) -> None:
    whole = bytearray(MAG.read_bytes())
    begin = len(whole) // 2 if data.draw(st.booleans()) else 0
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(begin, len(whole) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(whole[: data.draw(st.integers(0, len(whole)))]) if data.draw(st.booleans()) else bytes(whole)
    with tempfile.NamedTemporaryFile(suffix=".mag") as file:
        Path(file.name).write_bytes(damaged)
        assert outcome(file.name) in ("", "bundle_unreadable")


def outcome(path: str) -> str:
    """Why a model is refused; '' if it is not."""
    try:
        load_network(load_model(path))
    except InputError as error:
        return error.code
    return ""


@pytest.mark.parametrize("end", [0, 10, 1000, 40_000])
def test_cut_off_published_bundles_are_refused(end: int, tmp_path: Path) -> None:
    (tmp_path / "cut.mag").write_bytes(MAG.read_bytes()[:end])
    with pytest.raises(InputError) as refusal:
        load_model(tmp_path / "cut.mag")
    assert refusal.value.code == "bundle_unreadable"


def test_bundles_of_other_generators_are_refused(tmp_path: Path) -> None:
    other = MAG.read_bytes().replace(b"performance_with_dynamics", b"another_kind_of_generator", 1)
    (tmp_path / "other.mag").write_bytes(other)
    with pytest.raises(InputError, match="none of Performance RNN's"):
        load_model(tmp_path / "other.mag")
    with pytest.raises(InputError, match="No such file"):
        load_model(tmp_path / "missing.mag")


@pytest.mark.parametrize("name", ["bundle", "bundle.zip", "bundle.mag", "of.any.name"])
@pytest.mark.parametrize("at_s3", [False, True])
def test_our_bundles_hold_the_model(name: str, at_s3: bool, checkpoint: Checkpoint, request: Any) -> None:
    place = join(request.getfixturevalue("moto_bucket" if at_s3 else "tmp_path"), name)
    digest = write_bundle(checkpoint, place, "A small one")
    found = load_model(place)
    assert (found.digest, found.config, found.label) == (digest, checkpoint.config, "small")
    assert load_model(shown(found.path)).digest == digest  # as workers elsewhere find it
    assert all((found.state[each] == checkpoint.state[each]).all() for each in checkpoint.state)
    asked = GenerationSettings(num_steps=200)
    made, expected = (generate(load_network(model), asked, [1])[0].tokens for model in (found, checkpoint))
    np.testing.assert_array_equal(made, expected)


def test_our_bundles_are_the_same_bytes_each_time(checkpoint: Checkpoint, tmp_path: Path) -> None:
    for name in ("a.zip", "b.zip"):
        write_bundle(checkpoint, tmp_path / name)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        told = json.loads(archive.read(META))
    assert told["id"] == "density_conditioned_performance_with_dynamics"
    assert told["vocabulary"]["classes"] == [388]
    assert told["measures"] == {"loss": 2.5}


def test_bundles_of_weights_that_are_no_numbers_are_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    broken = {name: np.full_like(value, np.nan) for name, value in checkpoint.state.items()}
    write_bundle(replace(checkpoint, state=broken), tmp_path / "bundle.zip")
    with pytest.raises(InputError, match="no numbers"):
        load_model(tmp_path / "bundle.zip")


def test_our_bundles_are_refused_when_tampered_with(checkpoint: Checkpoint, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    write_bundle(checkpoint, folder)
    weights, told = (folder / MODEL).read_bytes(), (folder / META).read_text()
    damages: list[tuple[str, bytes]] = [
        (MODEL, weights[:-1] + b"\x01"),
        (MODEL, weights[:100]),
        (META, b"{}"),
        (META, b"[" * 100_000),
        (META, told.replace("density", "destiny").encode()),
        (META, told.replace('"id": "density', '"id": "').encode()),
        (META, told.replace('"label": "small"', '"label": ["small"]').encode()),
        (META, re.sub('"dataset": {.*?}', '"dataset": 3', told, flags=re.DOTALL).encode()),
        *((META, told.replace('"step": 5', f'"step": {step}').encode()) for step in ('"x"', "null", "[1]", "true")),
        (META, told.replace('"layers": [\n', '"layers": [\n 99999,').encode()),
    ]
    for name, data in damages:
        assert data != (weights if name == MODEL else told.encode())
        (folder / MODEL).write_bytes(weights)
        (folder / META).write_text(told)
        (folder / name).write_bytes(data)
        with pytest.raises(InputError) as refusal:
            read_bundle(folder)
        assert refusal.value.code == "bundle_unreadable"
    for data in (b"", b"PK\x03\x04 no archive"):
        (tmp_path / "bad.zip").write_bytes(data)
        with pytest.raises(InputError):
            load_model(tmp_path / "bad.zip")

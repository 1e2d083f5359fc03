"""Examples as many as specified, measures against hand counts, and a training that learns and goes on."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import polars as pl
import pytest
import torch
from golden_pieces import PIECE, columns

from dexter_model.errors import InputError
from dexter_model.notes import RECORDED_NOTE
from dexter_model.performance_rnn.config import NetworkConfig, PerformanceRnnConfig, TrainingConfig, published
from dexter_model.performance_rnn.data import ResidentEvents, resident_split
from dexter_model.performance_rnn.encodings import heads
from dexter_model.performance_rnn.excerpts import excerpts
from dexter_model.performance_rnn.loss import token_loss
from dexter_model.performance_rnn.measures import Predictions, _per_class, evaluate, measures
from dexter_model.performance_rnn.network import initial_network
from dexter_model.performance_rnn.train_arrays import train_on_arrays
from dexter_model.training.checkpoint import load_checkpoint
from dexter_model.training.loop import Hooks, step_seed

DATASET = {"version": "1", "digest": "abc"}
TINY = PerformanceRnnConfig(
    NetworkConfig(layers=(16,)),
    TrainingConfig(steps=12, batch_size=8, log_every=4, validate_every=6, checkpoint_every=6, learning_rate=0.01),
)


def recorded(notes: Sequence[Sequence[float]], program: int = 0) -> np.ndarray:
    onset, end, pitch, velocity = columns(notes)
    table = np.zeros(len(onset), RECORDED_NOTE)
    table["onset_sec"], table["offset_sec"], table["sustained_sec"] = onset, end, end
    table["pitch"], table["velocity"], table["program"] = pitch, velocity, program
    return table


def long_piece(seconds: float = 70.15, lowest: int = 1) -> np.ndarray:
    """20 notes a second, pitches up to 125."""
    onset = np.arange(0, seconds - 0.1, 0.05)
    return recorded([(lowest + i * 7 % (126 - lowest), 1 + i % 120, t, t + 0.1) for i, t in enumerate(onset)])


def resident(config: PerformanceRnnConfig, *pieces: np.ndarray, augmented: bool = True) -> ResidentEvents:
    return ResidentEvents.of_performances(pieces, config, augmented=augmented)[0]


@pytest.mark.parametrize(
    ("name", "count", "labels"),
    [
        ("performance", 35, {53, 55}),
        ("performance_with_dynamics", 35, {65, 67}),
        ("performance_with_dynamics_and_modulo_encoding", 35, {65, 67}),
        ("multiconditioned_performance_with_dynamics", 35, {65, 67}),
        ("optional_multiconditioned_performance_with_dynamics", 70, {65, 67}),
        ("performance_with_dynamics_and_note_encoding", 0, set()),
    ],
)
def test_the_golden_piece_gives_as_many_examples_as_it_should(name: str, count: int, labels: set[int]) -> None:
    config = published(name)
    events = resident(config, recorded(PIECE))
    assert len(events.examples(config)) == count
    assert {int(length) - 1 for length in events.length} == labels
    plain = resident(config, recorded(PIECE), augmented=False)
    assert len(plain.examples(config)) == count // 35
    if "dynamics" in name and count:
        assert plain.length.tolist() == [66]


def test_a_long_dense_piece_is_cut_into_excerpts_of_512_events() -> None:
    config = published("performance_with_dynamics")
    events = resident(config, long_piece())
    examples = events.examples(config)
    assert len(examples) == 5 * 3 * 4  # from 1 to 125: one down, two up
    assert all(batch.tokens_BTK.shape[1] == 512 for batch in examples.batches(8))


@pytest.mark.parametrize(("seconds", "parts"), [(30.0, 1), (60.0, 2), (61.0, 3)])
def test_pieces_are_cut_every_30_s(seconds: float, parts: int) -> None:
    notes = recorded([(60, 80, t, t + 0.5) for t in np.arange(0, seconds, 0.5)])
    assert len(list(excerpts(notes, NetworkConfig(), 1.0, Counter()))) == parts


def test_notes_end_with_their_excerpt_and_silence_before_them_stays() -> None:
    found = list(excerpts(recorded([(60, 80, 29.5, 40), (62, 80, 31, 32)]), NetworkConfig(), 1.0, Counter()))
    assert [tokens[-2:, 0].tolist() for tokens in found] == [[305, 188], [355, 190]]
    assert found[1][0, 0] == 355


def test_excerpts_of_several_instruments_and_dropped_notes_are_left_out() -> None:
    discarded: Counter[str] = Counter()
    several = np.concatenate([recorded([(60, 80, 0, 1)]), recorded([(62, 80, 0, 1)], program=40)])
    assert not list(excerpts(several, NetworkConfig(), 1.0, discarded))
    assert discarded == {"more than one program": 1}
    notes = recorded([(60, 80, 0, 1), (62, 80, 0, 1), (64, 80, 0, 1)])
    notes["sustained_sec"][0], notes["channel"][2] = np.nan, 9
    (tokens,) = excerpts(notes, NetworkConfig(), 1.0, discarded)
    assert tokens[:, 0].tolist() == [375, 62, 355, 190]
    assert ResidentEvents.of_performances([notes], TINY, augmented=True)[1] == {"too short": 5}


def test_transposed_examples_are_transposed_performances() -> None:
    config = published("pitch_conditioned_performance_with_dynamics")
    up = [(pitch + 2, *rest) for pitch, *rest in PIECE]
    examples = resident(config, recorded(PIECE)).examples(config)
    same_tempo = examples.events.stretch[examples.sequence] == 1.0
    which = torch.nonzero(same_tempo & (examples.semitones == 2))[:, 0]
    found = examples.cut(which, torch.zeros_like(which))
    (expected,) = resident(config, recorded(up), augmented=False).examples(config).batches(1)
    torch.testing.assert_close(found.tokens_BTK, expected.tokens_BTK)
    torch.testing.assert_close(found.controls_BTC, expected.controls_BTC)
    notes = replace(config, network=published("performance_with_dynamics_and_note_encoding").network)
    notes = replace(notes, training=replace(notes.training, fewest_events=2))
    tuples = resident(notes, recorded(PIECE)).examples(notes)
    assert set(tuples.cut(torch.arange(7), torch.zeros(7).long()).tokens_BTK[:, 0, 2].tolist()) == set(range(33, 40))


def test_any_excerpt_of_long_sequences_is_drawn_where_wanted() -> None:
    config = PerformanceRnnConfig(NetworkConfig(), TrainingConfig(excerpt="any", most_events=64))
    examples = resident(config, long_piece(30)).examples(config)
    starts = {tuple(row[:5]) for row in examples.draw(50, torch.Generator().manual_seed(1)).tokens_BTK[..., 0].tolist()}
    assert len(starts) > 40


def test_splits_travel_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    events = resident(TINY, recorded(PIECE))
    events.save(tmp_path / "split.npz")
    loaded = ResidentEvents.load(tmp_path / "split.npz")
    assert all(torch.equal(getattr(events, name), getattr(loaded, name)) for name in vars(events))
    with np.load(tmp_path / "split.npz") as arrays:  # as it was written once, with more in it
        np.savez(tmp_path / "old.npz", performance=np.zeros(len(events.length)), **arrays)
    assert torch.equal(ResidentEvents.load(tmp_path / "old.npz").tokens, events.tokens)
    (tmp_path / "bad.npz").write_bytes((tmp_path / "split.npz").read_bytes()[:500])
    with pytest.raises(InputError, match="no split"):
        ResidentEvents.load(tmp_path / "bad.npz")


def test_measures_of_few_predictions() -> None:
    labels = np.array([[60], [355], [355], [188], [380], [256]])
    guesses = np.array([[60], [355], [60], [188], [381], [257]])
    nats = np.array([[1.0], [0.5], [1.5], [2.0], [3.0], [4.0]], np.float32)
    found = measures(Predictions(labels, nats, guesses), NetworkConfig())
    assert found["loss"] == 2.0
    assert found["perplexity"] == pytest.approx(math.exp(2))
    assert (found["accuracy"], found["event_accuracy"], found["no_event_accuracy"]) == (0.5, 0.5, 0.5)
    assert (found["loss_per_step"], found["loss_per_note"]) == (pytest.approx(12 / 201), 12.0)
    assert [found[f"loss_{kind}"] for kind in ("on", "off", "shift", "velocity")] == [1.0, 2.0, 2.0, 3.0]
    assert [found[f"accuracy_{kind}"] for kind in ("on", "off", "velocity")] == [1.0, 1.0, 0.0]
    assert found["per_class_accuracy"] == pytest.approx(2.5 / 388)


def test_classes_that_never_come_count_as_missed() -> None:
    hits = np.array([[True], [False], [True]])  # of labels 0, 0, 1: guesses 0, 1, 1
    assert _per_class(np.array([[0], [0], [1]]), hits, (4,)) == 0.375


def test_measures_are_of_the_loss_that_is_learnt() -> None:
    for name in ("performance", "performance_with_dynamics_and_note_encoding"):
        config = published(name)
        config = PerformanceRnnConfig(replace(config.network, layers=(8,)), TrainingConfig(fewest_events=2))
        network = initial_network(config.network, 0).eval()
        (batch,) = resident(config, recorded(PIECE), augmented=False).examples(config).batches(4)
        found = evaluate(network, [batch], config.network)
        assert found["loss"] == pytest.approx(token_loss(network, batch, heads(config.network)).item(), rel=1e-5)
        assert all(math.isfinite(value) for value in found.values())


def test_training_learns_and_goes_on_as_if_undisturbed(tmp_path: Path) -> None:
    training, validation = resident(TINY, recorded(PIECE)), resident(TINY, recorded(PIECE), augmented=False)

    def run(out: Path, **options: Any) -> Any:
        return train_on_arrays(training, validation, TINY, out, dataset=DATASET, **options)

    whole = run(tmp_path / "whole")
    assert whole.history[-1][1] < whole.history[0][1] < 6.0
    assert whole.history[-1][3] is not None
    run(tmp_path / "parts", seconds=0.0)
    parts = run(tmp_path / "parts")
    assert (parts.digest, parts.history) == (whole.digest, whole.history)
    with pytest.raises(InputError, match="another"):
        train_on_arrays(training, validation, replace(TINY, network=NetworkConfig()), tmp_path / "whole", dataset={})
    begun = load_checkpoint(tmp_path / "whole")
    warm = train_on_arrays(training, None, TINY, tmp_path / "warm", dataset=DATASET, warm_start=begun)
    assert warm.history[0][1] < whole.history[-1][1]


@pytest.mark.parametrize("mode", ["global", "per_tensor"])
def test_gradients_are_clipped_together_or_each_by_itself(
    mode: Literal["global", "per_tensor"], tmp_path: Path
) -> None:
    limit, rate, events = 0.01, 0.01, resident(TINY, recorded(PIECE))
    training = replace(TINY.training, steps=1, gradient_clip_mode=mode, gradient_clip=limit, adam_epsilon=1.0)
    config = replace(TINY, training=training)
    train_on_arrays(events, None, config, tmp_path, dataset={})
    network, seed = initial_network(config.network, training.seed), step_seed(training.seed, 0, 0)
    batch = events.examples(config).draw(training.batch_size, torch.Generator().manual_seed(seed))
    token_loss(network, batch, heads(config.network)).backward()
    gradient = {name: weights.grad.numpy() for name, weights in network.named_parameters() if weights.grad is not None}
    norms = {name: np.linalg.norm(each) for name, each in gradient.items()}
    whole = np.linalg.norm(list(norms.values()))
    assert max(norms.values()) > limit > min(norms.values())
    found = load_checkpoint(tmp_path).state
    for name, weights in network.named_parameters():
        norm = whole if mode == "global" else norms[name]
        clipped = gradient[name] * min(1.0, limit / norm)
        update = rate * clipped / (np.abs(clipped) + 1.0)  # Adam's first
        np.testing.assert_allclose(found[name], weights.detach().numpy() - update, atol=1e-7)


def test_checkpoints_come_by_the_clock(tmp_path: Path) -> None:
    found: list[int] = []
    hooks = Hooks(checkpointed=lambda folder, row: found.append(row.step), checkpoint_seconds=0.0)
    config = replace(TINY, training=replace(TINY.training, checkpoint_every=1000))
    by_clock = train_on_arrays(resident(TINY, recorded(PIECE)), None, config, tmp_path / "a", dataset={}, hooks=hooks)
    assert len(found) == 12
    at_the_end = train_on_arrays(resident(TINY, recorded(PIECE)), None, config, tmp_path / "b", dataset={})
    assert by_clock.digest == at_the_end.digest


def test_what_a_split_holds_is_told(caplog: pytest.LogCaptureFixture) -> None:
    class Opened:
        catalogue = pl.DataFrame({"split": ["train"]})

        def recordings(self, split: str) -> list[Any]:
            return [SimpleNamespace(notes=long_piece(40.0)), SimpleNamespace(notes=recorded([(60, 80, 0, 1)]))]

    with caplog.at_level("INFO", logger="dexter_model.performance_rnn.data"):
        assert resident_split(Opened(), "train", published("performance")) is not None  # type: ignore[arg-type]
    (message,) = [each for each in caplog.messages if each.startswith("train: ")]
    told = "3 from 5 s on, 2 from 10 s on, 5 from 30 s on"
    assert message == f"train: 10 sequences, 9 of more than 512 events, 5 too short; long: {told}"


def test_a_split_without_examples_is_refused(tmp_path: Path) -> None:
    empty = resident(TINY, recorded([(60, 80, 0, 1)]))
    with pytest.raises(InputError, match="long enough"):
        train_on_arrays(empty, None, TINY, tmp_path, dataset=DATASET)


def test_the_command_of_a_bare_machine(tmp_path: Path) -> None:
    resident(TINY, recorded(PIECE)).save(tmp_path / "split.npz")
    (tmp_path / "config.json").write_text(json.dumps(TINY.to_dict()))
    command = [sys.executable, "-m", "dexter_model.training.on_arrays", "performance_rnn", "split.npz", "config.json"]
    command += ["--out", "out", "--device", "cpu", "--validation", "split.npz"]
    told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "12 steps" in told.stdout
    assert "criterion" in told.stderr

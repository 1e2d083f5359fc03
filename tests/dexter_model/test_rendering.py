"""One score rendered: the plan, the noise, what may come out, and that company changes nothing."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import write_random_checkpoint

from dexter_model.codec.performance_codec import decode
from dexter_model.errors import InputError
from dexter_model.expression.config import DenoiserConfig, DiffusionConfig, ExpressionConfig, TrainingConfig
from dexter_model.expression.plan import Render, Sampling, evaluations, plan_batches, score_digest
from dexter_model.expression.rendering import perform, playable, render
from dexter_model.expression.sampler import PieceSampler
from dexter_model.expression.score_files import ScoreFile, distinct_names, find_scores, render_names
from dexter_model.notes import SCORE_NOTE, Score
from dexter_model.training.checkpoint import load_checkpoint


def chords(count: int) -> Score:
    """Three notes to an onset, an eighth apart."""
    notes = np.zeros(count, SCORE_NOTE)
    notes["onset_div"], notes["duration_div"] = np.arange(count) // 3, 1
    notes["onset_beat"], notes["duration_beat"] = notes["onset_div"] / 2, 0.5
    notes["pitch"] = 60 + 4 * (np.arange(count) % 3)
    notes["voice"] = 1
    return Score(np.array([f"n{k}" for k in range(count)]), notes)


TWO = Sampling(steps=2)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("models") / "random")


def test_noise_is_the_renders_own() -> None:
    """Of its seed, score and sample, and of every step; a longer piece begins with the same noise."""
    noise = Render(chords(1000), "score").noise()
    assert noise.shape == (1000, 5)
    np.testing.assert_array_equal(noise[:100], Render(chords(100), "score").noise())
    assert abs(noise.mean()) < 0.05
    assert abs(noise.std() - 1) < 0.05
    keys = (("score", 14, 0), ("other", 13, 0), ("score", 13, 1))
    others = [Render(chords(1000), *key).noise() for key in keys]
    others += [Render(chords(1000), "score").noise(step) for step in (1, 2, 999)]
    assert all(abs(np.corrcoef(noise.ravel(), other.ravel())[0, 1]) < 0.06 for other in others)


def test_the_digest_is_of_the_notes_not_of_their_container() -> None:
    score = chords(9)
    assert score_digest(score) == score_digest(Score(score.note_id.astype("U40"), score.notes.copy()))
    changed = score.notes.copy()
    changed["pitch"][4] += 1
    assert score_digest(score) != score_digest(Score(score.note_id, changed))


@given(st.lists(st.integers(1, 300), max_size=6), st.integers(1, 9))
def test_batches_have_every_render_once_in_order(notes: list[int], batch_size: int) -> None:
    batches = plan_batches(notes, 60, batch_size)
    assert [index for batch in batches for index in batch] == list(range(len(notes)))
    windows = [sum(-(-notes[index] // 60) for index in batch) for batch in batches]
    assert all(count <= batch_size or len(batch) == 1 for count, batch in zip(windows, batches, strict=True))
    firsts = [-(-notes[batch[0]] // 60) for batch in batches]
    assert all(count + first > batch_size for count, first in zip(windows, firsts[1:], strict=False))


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 1e6))
def test_whatever_the_model_says_can_be_played(seed: int, scale: float) -> None:
    score = chords(31)
    wild = np.random.default_rng(seed).normal(scale=scale, size=(31, 5))
    performance, encoded = perform(score, wild)
    beat_period, velocity, _, _, pedal = encoded.p_codec.T
    assert ((beat_period >= 0.125) & (beat_period <= 4)).all()
    assert (np.diff(beat_period.reshape(-1)[:30].reshape(10, 3), axis=1) == 0).all()
    assert ((velocity * 127 >= 0.999) & (velocity <= 1) & (pedal >= 0) & (pedal <= 1)).all()
    assert np.isfinite(performance.notes["onset_sec"]).all()
    assert performance.notes["onset_sec"].min() == 0
    assert performance.notes["duration_sec"].min() > 0
    assert ((performance.notes["velocity"] >= 1) & (performance.notes["velocity"] <= 127)).all()


def test_what_can_be_played_already_stays_as_it_is() -> None:
    score = chords(30)
    codec = np.random.default_rng(1).uniform([0.2, 0.1, -0.2, -2, 0], [2, 0.9, 0.2, 2, 1], (30, 5))
    codec[:, 0] = np.repeat(codec[::3, 0], 3)
    np.testing.assert_allclose(playable(codec, score.notes), codec, rtol=1e-6)


@pytest.mark.parametrize("notes", [1, 2, 60, 61, 500])
def test_every_note_is_performed_once(checkpoint: Path, notes: int) -> None:
    score = chords(notes)
    performance, encoded = render(score, checkpoint, TWO)
    assert performance.note_id.tolist() == encoded.note_id.tolist() == score.note_id.tolist()
    assert encoded.matched.all()
    np.testing.assert_array_equal(performance.notes["pitch"], score.notes["pitch"])
    again = decode(score.notes, score.note_id, encoded.p_codec, encoded.matched)
    np.testing.assert_array_equal(performance.notes, again.notes)
    np.testing.assert_array_equal(performance.pedal, again.pedal)


def test_the_seed_the_sample_and_the_settings_decide(checkpoint: Path) -> None:
    def codec(sampling: Sampling = TWO, seed: int = 5, sample: int = 0) -> np.ndarray:
        return render(chords(150), checkpoint, sampling, seed=seed, sample=sample)[1].p_codec

    first = codec()
    assert first.tobytes() == codec().tobytes()
    others = [codec(seed=6), codec(sample=1), codec(replace(TWO, guidance=3.0))]
    others += [codec(replace(TWO, sampler=sampler)) for sampler in ("ddpm", "ddim")]
    others += [codec(replace(TWO, sampler="ddim", eta=0.5))]
    assert len({each.tobytes() for each in [first, *others]}) == 7


@pytest.mark.parametrize("sampling", [Sampling(3, sampler="ddim"), Sampling(3, sampler="ddpm"), Sampling(4)])
def test_a_piece_has_the_same_bits_in_any_company(checkpoint: Path, sampling: Sampling) -> None:
    sampler = PieceSampler(load_checkpoint(checkpoint), sampling)
    renders = [Render(chords(n), str(n)) for n in (25, 170, 333, 61)]

    def sampled(batch_size: int) -> bytes:
        plan = plan_batches([len(each.score.notes) for each in renders], 60, batch_size)
        codecs = [codec for batch in plan for codec in sampler.run([renders[index] for index in batch])]
        return np.concatenate(codecs).tobytes()

    assert len({sampled(batch_size) for batch_size in (1, 4, 7, 16)}) == 1


def test_windows_of_a_piece_agree_where_they_overlap(checkpoint: Path) -> None:
    """At every evaluation the piece is one: what windows are cut from is what they were joined to."""
    sampler, states = PieceSampler(load_checkpoint(checkpoint), TWO), []
    codec = sampler.run([Render(chords(150), "piece")], on_step=lambda t, x, x0: states.append((t, x, x0)))[0]
    assert states[0][0] == 999
    assert len(states) == 2
    assert all(x.shape == x0.shape == (150, 5) for _, x, x0 in states)
    np.testing.assert_allclose(sampler.statistics.restore(states[-1][2]).numpy(), codec, atol=1e-6)


def test_sampling_leaves_the_number_of_threads_alone(checkpoint: Path) -> None:
    threads = torch.get_num_threads()
    render(chords(100), checkpoint, Sampling(1))
    assert torch.get_num_threads() == threads


def test_a_model_that_gives_no_numbers_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not numbers") as caught:
        render(chords(30), write_random_checkpoint(tmp_path / "broken", scale=float("nan")), TWO)
    assert caught.value.code == "checkpoint_unusable"


def test_more_steps_than_the_diffusion_has_are_refused_before_any_work(tmp_path: Path) -> None:
    few = write_random_checkpoint(tmp_path / "few", diffusion=DiffusionConfig(steps=8))
    assert np.isfinite(render(chords(9), few, Sampling(8))[1].p_codec).all()
    with pytest.raises(InputError, match="9 is more than the checkpoint's diffusion has") as caught:
        PieceSampler(load_checkpoint(few), Sampling(9))
    assert (caught.value.path, caught.value.code) == ("--steps", "option_invalid")
    mean = write_random_checkpoint(tmp_path / "mean", diffusion=DiffusionConfig(steps=8), target="mean")
    assert len(render(chords(9), mean, Sampling(9))[1].p_codec) == 9  # asks once, however many steps are named


def test_a_model_of_transfer_has_nothing_to_start_from(tmp_path: Path) -> None:
    model = write_random_checkpoint(tmp_path, training=TrainingConfig(train_target="transfer"))
    with pytest.raises(InputError) as caught:
        render(chords(9), model, TWO)
    assert caught.value.code == "source_missing"


def test_what_a_setting_costs() -> None:
    def cost(sampling: Sampling, target: Any = "epsilon", train: Any = "gen_noise", *, source: bool = False) -> int:
        config = ExpressionConfig(DenoiserConfig(target=target), training=TrainingConfig(train_target=train))
        return evaluations(sampling, config, source=source)

    assert (cost(Sampling(10, guidance=1.0)), cost(Sampling(10, guidance=1.2))) == (10, 20)
    assert cost(Sampling(50, guidance=2.0), "mean") == 1
    shallow = Sampling(10, guidance=1.0, depth=0.004)  # times 0 to 3 of 999
    assert (cost(shallow), cost(shallow, source=True), cost(shallow, train="transfer", source=True)) == (10, 4, 10)


@pytest.mark.parametrize(("scale", "limit"), [("published", 8.0), ("robust", 4.0)])
def test_what_a_model_starts_from_is_as_far_out_as_what_it_learnt(scale: Any, limit: float, tmp_path: Path) -> None:
    model = write_random_checkpoint(tmp_path, training=TrainingConfig(train_target="transfer"), codec_scale=scale)
    sampler = PieceSampler(load_checkpoint(model), Sampling(steps=2))
    codec = np.tile(np.array([0.5, 0.5, 0, 0, 0.3], np.float32), (30, 1))
    codec[7, 2] = 5.0  # s off the chord
    seen: list[torch.Tensor] = []
    sampler.run([Render(chords(30), "s", start=codec)], lambda t, x, x0: seen.append(x))
    assert float(seen[0].abs().max()) == limit == sampler.statistics.limit


def test_a_source_is_as_fast_as_its_played_notes(tmp_path: Path) -> None:
    """What a codec tells of notes that were not played is no tempo of the performance's."""
    sampler = PieceSampler(load_checkpoint(write_random_checkpoint(tmp_path, codec_scale="robust")), Sampling(1))
    codec, played = np.full((30, 5), 0.5, np.float32), np.arange(30) < 20
    codec[~played, 0] = 4.0

    def period(start_played: np.ndarray | None) -> float:
        start = Render(chords(30), "s", start=codec, start_played=start_played)
        return float(sampler.codec(torch.zeros(30, 5), start)[0, 0])

    level_zero = 2.0**0.5  # the statistics' mean of the relative tempo
    assert period(played) == pytest.approx(0.5 * level_zero)
    assert period(None) == pytest.approx(1.0 * level_zero)


def test_a_score_without_notes_is_refused(checkpoint: Path) -> None:
    with pytest.raises(InputError, match="no notes"):
        render(chords(0), checkpoint)


def test_scores_are_found_in_folders_once_and_renders_are_not_scores(tmp_path: Path) -> None:
    for name in ("b.MXL", "a.musicxml", "sub/a.mei", "sub/.hidden.mid", ".git/x.mid", "notes.txt", "out/old.mid"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    os.symlink(tmp_path, tmp_path / "sub" / "loop")
    found = find_scores([tmp_path, tmp_path / "a.musicxml", tmp_path / "notes.txt"], exclude=tmp_path / "out")
    assert [file.relative for file in found] == ["a.musicxml", "b.MXL", "sub/a.mei", "notes.txt"]


def test_nothing_to_render_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no score") as caught:
        find_scores([tmp_path])
    assert caught.value.code == "no_scores"
    with pytest.raises(InputError, match="no such file") as caught:
        find_scores([tmp_path / "absent.xml"])
    assert caught.value.code == "missing_file"


def test_names_tell_scores_apart() -> None:
    def names(*files: tuple[str, str]) -> list[str]:
        return render_names([ScoreFile(*file) for file in files])

    in_a_folder = ["op.10/no.3.musicxml", "fugue.mid", "Fugue.mxl", "sub/fugue.mid"]
    expected = ["op.10/no.3", "fugue_mid", "Fugue_mxl", "sub/fugue"]
    assert names(*((f"/b/{path}", path) for path in in_a_folder)) == expected
    assert names(("a/s.xml", "s.xml"), ("b/s.xml", "s.xml"), ("../t.xml", "t.xml")) == ["a/s", "b/s", "t"]
    assert names(("/p/x/a/s.xml", "s.xml"), ("/p/y/a/s.xml", "a/s.xml"), ("s.xml", "s.xml")) == ["x/a/s", "y/a/s", "s"]
    assert distinct_names(names(("s.xml", "s.xml"), ("../s.xml", "s.xml"))) == ["s", "s_2"]
    assert names((f"{'é' * 124}.mid", f"{'é' * 124}.mid")) == ["é" * 50]
    assert distinct_names(["a", "A", "a_2", "b"]) == ["a", "A_2", "a_2_2", "b"]

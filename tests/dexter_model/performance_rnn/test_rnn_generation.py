"""Generation by the specification: lengths, primers, choices among candidates, steering; independence of batches."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pretty_midi
import pytest
import torch
from tiny_models import write_random_generator
from torch import Tensor

from dexter_model.codec.performance_midi import write_performance_midi
from dexter_model.errors import InputError
from dexter_model.performance_rnn import generation
from dexter_model.performance_rnn.config import NetworkConfig, PerformanceRnnConfig
from dexter_model.performance_rnn.encodings import token_steps
from dexter_model.performance_rnn.events import with_length
from dexter_model.performance_rnn.generation import as_performance, generate, log_likelihood
from dexter_model.performance_rnn.making import Maker, checked
from dexter_model.performance_rnn.network import PerformanceRnn, initial_network
from dexter_model.performance_rnn.primer import primer, primer_notes, with_primer_read
from dexter_model.performance_rnn.rollout import steering_over_time
from dexter_model.performance_rnn.sampling import RandomStreams, draw_tokens
from dexter_model.performance_rnn.settings import GenerationSettings
from dexter_model.reading.midi import load_midi
from dexter_model.training.checkpoint import Checkpoint, load_checkpoint

KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "no velocity": {"velocity_bins": 0},
    "modulo": {"encoding": "modulo"},
    "notes": {"encoding": "notes"},
    "steered": {"density": True, "histogram": True, "optional": True},
    "attention and residual": {"attention": 3, "residual": True},
}


def network(**settings: Any) -> PerformanceRnn:
    """Random, with logits large enough to prefer some events."""
    made = initial_network(replace(NetworkConfig(layers=(16, 12)), **settings), 1).double().eval()
    made.head.weights.data *= 8
    return made


def tokens_of(made: PerformanceRnn, seeds: list[int], **settings: Any) -> list[list[list[int]]]:
    return [each.tokens.tolist() for each in generate(made, GenerationSettings(**settings), seeds)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("search", [(1, 1, 1), (2, 3, 4)])
def test_a_performance_does_not_depend_on_its_batch(kind: str, search: tuple[int, ...]) -> None:
    made = network(**KINDS[kind])
    names = ("beam_size", "branch_factor", "steps_per_iteration")
    how = {"num_steps": 600, **dict(zip(names, search, strict=True)), "constrained": kind == "plain"}
    together = tokens_of(made, [3, 4, 5, 6], **how)
    assert together == [tokens_of(made, [seed], **how)[0] for seed in (3, 4, 5, 6)]
    assert len({str(tokens) for tokens in together}) == 4


@pytest.mark.parametrize("kind", KINDS)
def test_lengths_notes_and_velocities_are_in_their_bounds(kind: str) -> None:
    for each in generate(network(**KINDS[kind]), GenerationSettings(num_steps=1500), [1, 2, 3]):
        if kind != "notes":
            assert each.start + token_steps(each.tokens).sum() == 1500
        notes = each.notes
        assert len(notes)
        assert (notes["onset"] >= 0).all()
        assert (notes["offset"] <= 1500).all()
        assert (notes["offset"] - notes["onset"] >= 1).all()
        assert (notes["offset"] - notes["onset"] <= 500).all()
        allowed = [100] if kind == "no velocity" else [*range(1, 127, 4), 100]
        assert set(notes["velocity"].tolist()) <= set(allowed)


def test_without_a_primer_the_first_second_is_silent() -> None:
    begun = primer(GenerationSettings(num_steps=600), NetworkConfig())
    assert (begun.tokens.tolist(), begun.start, begun.total) == ([[355]], 1, 599)  # 499 steps are left
    (made,) = generate(network(), GenerationSettings(num_steps=600), [1])
    assert made.notes["onset"].min() >= 101
    (short,) = generate(network(), GenerationSettings(num_steps=40), [1])
    assert (short.tokens.tolist(), len(short.notes)) == ([[294]], 0)


def test_a_chord_begins_the_performance() -> None:
    begun = primer(GenerationSettings(num_steps=600, primer_pitches=(64, 60)), NetworkConfig())
    assert begun.tokens[:, 0].tolist() == [380, 60, 64, 305, 188, 192, 256]  # 51 steps; 549 are left
    assert (begun.start, begun.total) == (0, 600)
    (made,) = generate(network(), GenerationSettings(num_steps=600, primer_pitches=(64, 60)), [1])
    assert made.tokens[:7].tolist() == begun.tokens.tolist()
    assert made.notes[:2].tolist() == [(0, 50, 60, 97), (0, 50, 64, 97)]


def test_a_melody_begins_the_performance() -> None:
    onset, end, pitch, velocity = primer_notes(GenerationSettings(primer_melody=(60, -2, 62, -1, -2, 64, 65, -2)))
    assert pitch.tolist() == [60, 62, 64, 65]
    assert onset.tolist() == [0.0, 0.25, 0.625, 0.75]
    assert end.tolist() == [0.25, 0.375, 0.75, 1.0]
    assert set(velocity) == {100}
    assert not len(primer_notes(GenerationSettings(primer_melody=(-2, -1, -2)))[0])


def test_a_midi_file_begins_the_performance(tmp_path: Path) -> None:
    (first,) = generate(network(), GenerationSettings(num_steps=400, primer_pitches=(60,), constrained=True), [1])
    write_performance_midi(as_performance(first), tmp_path / "primer.mid")
    assert len(load_midi(tmp_path / "primer.mid").notes) == len(first.notes)
    (made,) = generate(network(), GenerationSettings(num_steps=800, primer_midi=str(tmp_path / "primer.mid")), [2])
    begins = made.notes[made.notes["onset"] < first.notes["onset"].max()]
    expected = first.notes[first.notes["onset"] < first.notes["onset"].max()]
    np.testing.assert_array_equal(begins[["onset", "pitch", "velocity"]], expected[["onset", "pitch", "velocity"]])


def midi_file(path: Path, *, drums: bool = False, program: int = 0) -> Path:
    """A scale, and what is asked for beside it."""
    music = pretty_midi.PrettyMIDI()
    for is_drum, number in [(False, 0), (False, program), (True, 0)][: 2 + drums]:
        music.instruments.append(pretty_midi.Instrument(number, is_drum=is_drum))
    for pitch, instrument in enumerate(music.instruments, 60):
        instrument.notes.append(pretty_midi.Note(80, pitch, 0.0, 0.5))
    music.write(str(path))
    return path


def test_drums_are_no_part_of_a_primer_and_other_instruments_refuse_it(tmp_path: Path) -> None:
    drums = midi_file(tmp_path / "drums.mid", drums=True)
    read = with_primer_read(GenerationSettings(primer_midi=str(drums)))
    assert (read.primer_midi, [note[2] for note in read.primer_notes]) == ("", [60, 61])
    several = GenerationSettings(primer_midi=str(midi_file(tmp_path / "several.mid", program=40)))
    with pytest.raises(InputError, match="several instruments"):
        with_primer_read(several)
    (tmp_path / "broken.mid").write_bytes(b"MThd" + b"\xff" * 40)
    for name in ("broken.mid", "missing.mid"):
        with pytest.raises(InputError):
            with_primer_read(GenerationSettings(primer_midi=str(tmp_path / name)))
    assert with_primer_read(replace(several, primer_pitches=(60,))) == replace(several, primer_pitches=(60,))


def test_a_primer_of_a_file_nobody_trusts_is_read_in_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dexter_model.reading.recording.load_tracks", None)  # in this process
    assert with_primer_read(GenerationSettings(primer_midi=str(midi_file(tmp_path / "a.mid")))).primer_notes


def test_notes_begin_a_performance_of_notes() -> None:
    made = network(encoding="notes")
    (found,) = generate(made, GenerationSettings(num_steps=600, primer_pitches=(60, 64)), [1])
    assert found.tokens[:2].tolist() == [[0, 0, 60, 24, 1, 9], [0, 0, 64, 24, 1, 9]]
    (free,) = generate(made, GenerationSettings(num_steps=600), [1])
    assert len(free.notes) == len(free.tokens)


def searched(made: PerformanceRnn, settings: GenerationSettings, seed: int) -> list[int]:
    """The original's search: sequences kept as lists, the network run over all of each for every event."""
    begun = primer(settings, made.config)
    beam, branch, often = settings.beam_size, settings.branch_factor, settings.steps_per_iteration
    numbers = RandomStreams([seed], (beam * branch, 1), torch.device("cpu"))
    best: list[int] = begun.tokens[:, 0].tolist()
    steering = steering_over_time(made, settings, begun.total)

    def lasting(events: list[int]) -> int:
        return int(token_steps(np.array(events)[:, None]).sum())

    def extended(entry: tuple[list[int], float], uniform: Tensor) -> tuple[list[int], float]:
        events, score = entry
        clock = np.cumsum(token_steps(np.array(events)[:, None])).clip(max=begun.total)
        logits = made(torch.tensor(events)[None, :, None], steering[clock][None])[0, -1:]
        token, likelihood = draw_tokens(logits, uniform[None], (388,), settings.temperature, settings.top_p)
        return [*events, int(token)], score + float(likelihood)

    while lasting(best) < begun.total:
        count = math.ceil(4 * 15.0 * (begun.total - lasting(best)) / 100)
        entries = [(best, 0.0)] * beam
        sizes = [(count - 1) % often + 1] + [often] * ((count - 1) // often)
        for size in sizes:
            entries = [entry for entry in entries for _ in range(branch)]
            for _ in range(size):
                uniform = numbers.draw()[0]
                entries = [extended(entry, uniform[row]) for row, entry in enumerate(entries)]
            entries = sorted(entries, key=lambda entry: -entry[1])[:beam]
        best = entries[0][0]
    return with_length(np.array(best, np.uint16), begun.total).tolist()


@pytest.mark.parametrize("search", [(2, 2, 1), (3, 1, 5), (1, 3, 7)])
@pytest.mark.parametrize("steered", [False, True])
def test_choices_among_candidates_are_the_originals(search: tuple[int, int, int], steered: bool) -> None:
    made = network(density=steered)
    settings = GenerationSettings(140, (60,), (), "", 0.9, 0.95, False, *search)
    if steered:
        settings = replace(settings, notes_per_second=(15.0, 0.5, 29.5))
    for seed in (1, 2):
        (found,) = generate(made, settings, [seed])
        expected = searched(made, settings, seed)
        assert token_steps(found.tokens).sum() == 140
        # The original goes on to the end of a pass; what comes after the last step is no part of the music.
        assert found.tokens[:, 0].tolist() == expected[: len(found.tokens)]
        assert len(expected) - len(found.tokens) < 60


def test_likelier_performances_are_chosen() -> None:
    made = network()
    made.head.weights.data *= 5
    plain, chosen = GenerationSettings(500), GenerationSettings(500, beam_size=2, branch_factor=8)
    means = [
        np.mean([log_likelihood(made, each.tokens, how) / len(each.tokens) for each in generate(made, how, range(8))])
        for how in (plain, chosen)
    ]
    assert means[1] > means[0] + 0.1


def test_log_likelihood_is_the_sum_over_events() -> None:
    made = network(density=True)
    for few in (0, 1):
        assert log_likelihood(made, np.full((few, 1), 355, np.uint16), GenerationSettings()) == 0.0
    tokens = np.array([[355], [60], [300], [188]], np.uint16)
    steering = steering_over_time(made, GenerationSettings(notes_per_second=(1.0, 40.0)), 145)
    controls = steering[[100, 100, 145]]
    logits = made(torch.tensor([[355], [60], [300]])[None], controls[None])[0].log_softmax(dim=-1)
    expected = logits[[0, 1, 2], [60, 300, 188]].sum().item()
    settings = GenerationSettings(notes_per_second=(1.0, 40.0))
    assert log_likelihood(made, tokens, settings) == pytest.approx(expected)


def test_low_temperatures_and_small_top_p_take_the_likeliest() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0, -1.0]])
    uniform = torch.tensor([[0.999]], dtype=torch.float64)
    assert draw_tokens(logits, uniform, (4,), 1.0, 1.0)[0].item() == 3
    assert draw_tokens(logits, uniform, (4,), 0.01, 1.0)[0].item() == 1
    token, likelihood = draw_tokens(logits, uniform, (4,), 1.0, 0.3)
    assert (token.item(), likelihood.item()) == (1, 0.0)
    assert draw_tokens(logits, uniform, (4,), 1.0, 0.8)[0].item() == 2


def test_tokens_come_as_often_as_they_are_likely() -> None:
    numbers = RandomStreams([7], (20000, 1), torch.device("cpu")).draw()[0]
    logits = torch.tensor([0.1, 0.2, 0.3, 0.4]).log().expand(20000, 4)
    found = torch.bincount(draw_tokens(logits, numbers, (4,), 1.0, 1.0)[0][:, 0]) / 20000
    np.testing.assert_allclose(found, [0.1, 0.2, 0.3, 0.4], atol=0.012)


def test_constrained_keys_go_down_and_up_in_turn() -> None:
    for each in generate(network(), GenerationSettings(800, primer_pitches=(60,), constrained=True), range(4)):
        held: set[int] = set()
        for event in each.tokens[each.tokens < 256].tolist():
            assert (event >= 128) == (event % 128 in held)
            held ^= {event % 128}


def test_a_model_that_need_not_be_steered_is_not_when_told_nothing(tmp_path: Path) -> None:
    model = load_checkpoint(write_random_generator(tmp_path, "performance_rnn"))
    assert checked(model, GenerationSettings()).disable_conditioning == (True,)
    for told in ({"notes_per_second": (4.0,)}, {"disable_conditioning": (False,)}):
        assert checked(model, GenerationSettings(**told)) == GenerationSettings(**told)


def test_steering_is_spread_over_the_whole_performance() -> None:
    made = network(density=True, histogram=True, optional=True)
    low, high = (1.0,) + (0.0,) * 11, (0.0,) * 11 + (3.0,)
    how = GenerationSettings(
        notes_per_second=(0.5, 3.0, 100.0), pitch_class_histogram=(low, high), disable_conditioning=(False, True)
    )
    table = steering_over_time(made, how, 600)
    assert table.shape == (601, 21)
    assert table[[0, 199, 200, 299], 1:9].argmax(dim=1).tolist() == [0, 0, 2, 2]
    assert table[0, 9:].tolist() == list(low)
    assert (table[300:, 0] == 1).all()
    assert (table[300:, 1:] == 0).all()
    default = steering_over_time(made, GenerationSettings(), 10)
    assert default[0].tolist() == pytest.approx([0, 0, 0, 0, 0, 1, 0, 0, 0, *[1 / 12] * 12])


def test_what_notes_are_made_of_cannot_be_constrained() -> None:
    with pytest.raises(InputError, match="constrained"):
        generate(network(encoding="notes"), GenerationSettings(constrained=True), [1])


def test_more_performances_than_there_is_room_for_are_made_one_batch_after_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made, how = network(), {"num_steps": 300, "beam_size": 2, "branch_factor": 2}
    together = tokens_of(made, [1, 2, 3, 4, 5], **how)
    rows = []
    monkeypatch.setattr(generation, "MOST_ROWS", 9)
    step = made.step
    monkeypatch.setattr(made, "step", lambda *given: rows.append(len(given[0])) or step(*given))
    assert tokens_of(made, [1, 2, 3, 4, 5], **how) == together
    assert max(rows) == 8


def test_bfloat16_makes_performances_too() -> None:
    model = network(density=True).float()
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    config = PerformanceRnnConfig(model.config).to_dict()
    checkpoint = Checkpoint(Path("made-up"), config, {"mean": [], "std": []}, state, {"label": "", "step": 0}, "")
    for precision in ("float32", "bfloat16"):
        how = GenerationSettings(num_steps=500, precision=precision)  # type: ignore[arg-type]
        maker = Maker(checkpoint, how, seed=1)
        kinds = {weights.dtype for weights in maker.network.layers.parameters()}
        assert kinds == {getattr(torch, precision)}
        assert maker.run([1])[0].notes > 0


def test_steering_changes_what_is_played() -> None:
    made = network(density=True)
    assert tokens_of(made, [1], num_steps=500) != tokens_of(made, [1], num_steps=500, notes_per_second=(64.0,))
    assert tokens_of(made, [1], num_steps=500) == tokens_of(made, [1], num_steps=500, notes_per_second=(15.0, 15.0))


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_steps": 0},
        {"temperature": 0.0},
        {"temperature": 1e-310},
        {"beam_size": 100, "branch_factor": 100},
        {"disable_conditioning": (1,)},
        {"disable_conditioning": ("x",)},
        {"notes_per_second": (10**400,)},
        {"precision": "float16"},
        {"primer_notes": ((0.0, 1.0, 60),)},
        {"primer_notes": ((0.0, 1.0, 128, 64),)},
        {"top_p": 0.0},
        {"beam_size": 0},
        {"primer_pitches": (128,)},
        {"primer_melody": (-3,)},
        {"notes_per_second": (-2.0,)},
        {"notes_per_second": (math.nan,)},
        {"pitch_class_histogram": ((1.0,) * 11,)},
        {"primer_pitches": (60,), "num_steps": 50},
        {"notes_per_second": (3.0,)},
        {"disable_conditioning": (True,)},
    ],
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        generate(network(), GenerationSettings(**wrong), [1])


def test_flags_of_the_original_are_read() -> None:
    flags = {
        "num_steps": 500,
        "primer_pitches": "[60, 64, 67]",
        "primer_melody": "",
        "notes_per_second": "4",
        "pitch_class_histogram": "[2,0,1,0,1,1,0,1,0,1,0,1]",
        "disable_conditioning": "[true, False]",
        "primer_midi": None,
    }
    found = GenerationSettings.from_flags(flags)
    assert (found.primer_pitches, found.notes_per_second) == ((60, 64, 67), (4,))
    assert found.pitch_class_histogram == ((2, 0, 1, 0, 1, 1, 0, 1, 0, 1, 0, 1),)
    assert (found.disable_conditioning, found.primer_melody) == ((True, False), ())
    several = GenerationSettings.from_flags({"pitch_class_histogram": [[1] * 12, [0] * 11 + [1]]})
    assert len(several.pitch_class_histogram) == 2
    for name, flag in (("primer_pitches", "[60"), ("notes_per_second", "many"), ("colour", "1")):
        with pytest.raises(InputError):
            GenerationSettings.from_flags({name: flag})
    for wrong in ("[[1, 2], 3]", "[1, 2]", "['a']", "{}"):
        with pytest.raises(InputError):
            GenerationSettings.from_flags({"pitch_class_histogram": wrong})


def test_float32_says_the_same_in_batches_of_any_size() -> None:
    made = initial_network(NetworkConfig(layers=(64, 64)), 1).eval()
    tokens = torch.randint(0, 388, (64, 40, 1), generator=torch.Generator().manual_seed(1))
    states = made.initial(64), made.initial(1)
    none = torch.zeros(64, 0)
    with torch.no_grad():
        for t in range(40):
            many, state = made.step(tokens[:, t], none, states[0])
            one, single = made.step(tokens[:1, t], none[:1], states[1])
            states = state, single
            torch.testing.assert_close(many[:1].log_softmax(dim=-1), one.log_softmax(dim=-1), atol=1e-4, rtol=0)


def test_a_network_that_lets_no_time_pass_comes_to_an_end(caplog: pytest.LogCaptureFixture) -> None:
    made = network()
    made.head.biases.data[256:356] = -1000.0
    (found,) = generate(made, GenerationSettings(num_steps=150), [1])
    assert token_steps(found.tokens).sum() == 149
    assert len(found.tokens) < 1700
    assert "1 performances let no time pass" in caplog.text

"""The mid-level network: its front-end, its shape, whose weights it takes, and that it learns."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from test_perceptual import performance_of, played, quarters
from torch import Tensor, nn

from dexter_model.codec.performance_codec import encode
from dexter_model.corpora.sources import PerformanceSource
from dexter_model.dataset.perceptual import encoder, perceive
from dexter_model.digests import sha256_bytes
from dexter_model.errors import InputError
from dexter_model.notes import Alignment
from dexter_model.perceptual.cnn import DOMAIN_HEAD, MidLevelNetwork, load_network
from dexter_model.perceptual.cnn_training import fit
from dexter_model.perceptual.frontend import HOP, RATE, filterbank, read_wav, spectrogram
from dexter_model.perceptual.hearing import hear_sound, hear_wav, sound_of, windows_of
from dexter_model.reading.sandbox import Sandbox
from dexter_model.synthesis import why_silent

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def network() -> MidLevelNetwork:
    torch.manual_seed(0)
    return MidLevelNetwork().eval()


@pytest.fixture(scope="module")
def checkpoint(network: MidLevelNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cnn") / "network.safetensors"
    safetensors.torch.save_file(network.state_dict(), path)
    return path


def sine(hertz: float, seconds: float, rate: int = RATE) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate + 0.1)).astype(np.float32)


def written(path: Path, samples: np.ndarray, rate: int = RATE, channels: int = 1) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.repeat((samples * 32767).astype("<i2"), channels).tobytes())
    return path


def test_bands() -> None:
    filters = filterbank()
    assert filters.shape == (1024, 149)
    np.testing.assert_allclose(filters.sum(axis=0), 1)
    peaks = filters.argmax(axis=0) * RATE / 2048
    assert (round(peaks[0], 1), round(peaks[-1])) == (32.3, 10853)
    bands, lead = spectrogram(sine(440, 2))
    assert bands.shape == (149, np.ceil(2 * RATE / HOP))
    assert lead == 0
    assert abs(peaks[bands[:, 20].argmax()] - 440) < RATE / 2048


def test_silence_at_the_ends_is_cut_and_told() -> None:
    sound = sine(440, 2)
    bands, _ = spectrogram(sound)
    padded, lead = spectrogram(np.concatenate([np.zeros(RATE, np.float32), sound / 2, np.zeros(500, np.float32)]))
    assert lead == 1.0
    np.testing.assert_allclose(padded, bands, atol=1e-5)  # loudness is normalised
    assert spectrogram(np.zeros(1000, np.float32))[0].shape == (149, 0)


def test_shapes_and_sizes(network: MidLevelNetwork) -> None:
    with torch.inference_mode():
        sound = torch.zeros(1, 1, 149, 469)
        assert network.in_c(sound).shape == (1, 128, 74, 234)
        assert network.embedding(sound).shape == (1, 512, 18, 58)
        assert network(sound).shape == (1, 7)
    weights = sum(weight.numel() for weight in network.parameters())
    assert weights == 2_220_174
    assert weights + sum(int(np.prod(shape)) for shape in DOMAIN_HEAD.values()) == 2_246_865
    assert len(network.state_dict()) + len(DOMAIN_HEAD) == 90


def test_a_cell_sees_95_by_95(network: MidLevelNetwork) -> None:
    positive = MidLevelNetwork().eval()
    for weight in positive.parameters():
        nn.init.constant_(weight, 0.01)
    for name in ("pool1", "pool2"):  # a maximum passes one cell of four on; the mean sees the same field
        setattr(positive.stage1, name, nn.AvgPool2d(2))
    sound = torch.rand(1, 1, 149, 149, requires_grad=True)
    positive.embedding(sound)[0, 0, 9, 9].backward()
    assert sound.grad is not None
    seen = sound.grad[0, 0].abs() > 0
    rows, columns = (torch.nonzero(seen.any(dim=axis)).ravel() for axis in (1, 0))
    assert (rows.max() - rows.min() + 1, columns.max() - columns.min() + 1) == (95, 95)


def test_the_ramp_tells_high_from_low(network: MidLevelNetwork) -> None:
    block = network.stage1.get_submodule("block1")
    with torch.inference_mode():
        out = block(torch.zeros(1, 128, 40, 20))
    assert not torch.allclose(out[..., 10, 10], out[..., 30, 10])
    torch.testing.assert_close(out[..., 10, 5], out[..., 10, 15])


def domain_head() -> State:
    return {name: torch.ones(shape) for name, shape in DOMAIN_HEAD.items()}


def test_weights_in_all_their_forms(network: MidLevelNetwork, checkpoint: Path, tmp_path: Path) -> None:
    state = network.state_dict()
    sound = torch.rand(1, 1, 149, 64)
    forms = {"plain": state, "domain": state | domain_head()}
    forms["parallel"] = {f"module.{name}": weight for name, weight in forms["domain"].items()}
    with torch.inference_mode():
        expected = network(sound)
        for name, form in forms.items():
            torch.save(form, tmp_path / f"{name}.pt")
            loaded, digest = load_network(tmp_path / f"{name}.pt")
            assert digest == sha256_bytes((tmp_path / f"{name}.pt").read_bytes())
            assert not loaded.training
            torch.testing.assert_close(loaded(sound), expected)
        torch.testing.assert_close(load_network(checkpoint)[0](sound), expected)


def test_concepts_of_a_checkpoint_for_emotions(network: MidLevelNetwork, tmp_path: Path) -> None:
    trunk = {name: weight for name, weight in network.state_dict().items() if not name.startswith("feed_forward.")}
    concepts = torch.randn(7, 512)
    emotions = trunk | {"concepts_layer.2.weight": concepts, "feed_forward.weight": torch.ones(8, 7)}
    torch.save(emotions, tmp_path / "emotions.pt")
    loaded, _ = load_network(tmp_path / "emotions.pt")
    sound = torch.rand(2, 1, 149, 64)
    with torch.inference_mode():
        torch.testing.assert_close(loaded(sound), network.embedding(sound).mean(dim=(2, 3)) @ concepts.T)


def without(state: State, name: str) -> State:
    return {other: weight for other, weight in state.items() if other != name}


def test_other_weights_are_refused(network: MidLevelNetwork, tmp_path: Path) -> None:
    state, name = network.state_dict(), "stage2.block1.shortcut.conv.weight"
    cases: dict[str, tuple[object, str]] = {
        "missing": (without(state, name), f"the weight {name} is missing"),
        "more": (state | {"extra": torch.zeros(1)}, "the weight extra is not known"),
        "shape": (state | {name: torch.zeros(256, 129, 1, 1)}, r"has the shape \(256, 129, 1, 1\), not"),
        "nan": (state | {name: torch.full((256, 128, 1, 1), torch.nan)}, "no numbers"),
        "domain": (state | without(domain_head(), "discriminator.0.bias"), "discriminator.0.bias is missing"),
        "list": ([torch.zeros(1)], "no table of weights"),
        "nested": ({"state_dict": state}, "no table of weights"),
        "code": ({"in_c.0.weight": Exploit()}, "Weights only load failed|[Uu]nsupported"),
    }
    for case, (content, told) in cases.items():
        torch.save(content, tmp_path / f"{case}.pt")
        with pytest.raises(InputError, match=told) as caught:
            load_network(tmp_path / f"{case}.pt")
        assert caught.value.code == "checkpoint_unreadable"
    assert not EXPLODED
    for name in ("torn.pt", "torn.safetensors"):
        (tmp_path / name).write_bytes(b"\x80\x02garbage")
        with pytest.raises(InputError):
            load_network(tmp_path / name)
    with pytest.raises(InputError, match="No such file"):
        load_network(tmp_path / "absent.pt")


EXPLODED: list[bool] = []


class Exploit:
    """Runs code where a file is read as a pickle."""

    def __reduce__(self) -> tuple[object, tuple[bool]]:
        return EXPLODED.append, (True,)


def test_features_of_a_recording(network: MidLevelNetwork, checkpoint: Path, tmp_path: Path) -> None:
    sound = sine(220, 22) * np.linspace(0, 1, 22 * RATE, dtype=np.float32)
    path = written(tmp_path / "sound.wav", np.concatenate([np.zeros(2 * RATE, np.float32), sound]), channels=2)
    features = hear_wav(path, checkpoint)
    assert features.source == f"cnn:{sha256_bytes(checkpoint.read_bytes())[:12]}"  # of a recording
    np.testing.assert_allclose(features.times, [2 + 7.49, 2 + 12.48], atol=0.02)  # nothing is heard for 2 s
    assert features.mask.all()
    assert np.isnan(features.reference).all()
    windows = windows_of(spectrogram(read_wav(path))[0])
    with torch.inference_mode():
        np.testing.assert_allclose(features.values, network(windows).numpy(), rtol=1e-3, atol=1e-4)
    assert len(hear_sound(sine(220, 3), checkpoint).times) == 1  # repeated to 15 s
    assert hear_sound(np.zeros(RATE, np.float32), checkpoint).source == "none"


def test_recordings_of_other_rates_and_bad_ones(tmp_path: Path) -> None:
    other = read_wav(written(tmp_path / "other.wav", sine(440, 1, 44100), rate=44100))
    np.testing.assert_allclose(other[2000:-2000], sine(440, 1)[2000:-2000], atol=0.01)
    for name, content in {
        "empty": b"",
        "text": b"RIFF....WAVE",
        "cut": (tmp_path / "other.wav").read_bytes()[:30],
    }.items():
        (tmp_path / f"{name}.wav").write_bytes(content)
        with pytest.raises(InputError) as caught:
            read_wav(tmp_path / f"{name}.wav")
        assert caught.value.code == "sound_unreadable"
    with pytest.raises(InputError, match="no 16-bit samples"):
        read_wav(written(tmp_path / "none.wav", np.zeros(0)))


@pytest.mark.skipif(bool(why_silent()), reason="FluidSynth or a soundfont is missing")
def test_a_performance_is_synthesised_and_heard(checkpoint: Path) -> None:
    score = quarters(30)
    performance, _ = played(score, 0.5)
    sound = sound_of(performance)
    assert 15 < len(sound) / RATE < 20
    np.testing.assert_array_equal(sound, sound_of(performance))
    encoded = encode(score, performance, Alignment(score.note_id, score.note_id))
    with Sandbox() as sandbox:
        features = perceive(
            f"cnn:{checkpoint}", PerformanceSource("x.mid", "", None, ""), performance, encoded, score, sandbox
        )
    assert features.source == encoder(f"cnn:{checkpoint}")["parameters"]["perceptual"]
    assert features.mask.all()
    high = sound_of(performance_of(np.arange(0, 5, 0.5), 96))
    low = sound_of(performance_of(np.arange(0, 5, 0.5), 36))
    centres = [np.average(np.arange(149), weights=spectrogram(s)[0].mean(axis=1)) for s in (low, high)]
    assert centres[1] > centres[0] + 10


def test_another_soundfont_is_another_source(checkpoint: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sources = set()
    for content in (b"one instrument", b"another", b"one instrument"):
        (tmp_path / "default.sf2").write_bytes(content)
        monkeypatch.setattr("dexter_model.synthesis.SOUNDFONT_FOLDERS", (tmp_path,))
        sources.add(encoder(f"cnn:{checkpoint}")["parameters"]["perceptual"])
    assert len(sources) == 2


def test_features_do_not_tell_how_many_threads_there_were(checkpoint: Path) -> None:
    sound = np.random.default_rng(0).normal(0, 0.1, 15 * RATE).astype(np.float32)
    threads = torch.get_num_threads()
    heard = []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            heard.append(hear_sound(sound, checkpoint).values)
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_array_equal(heard[0], heard[1])


def test_training_learns(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    loudness = torch.linspace(0.1, 1, 8)
    windows = torch.rand(8, 1, 32, 32, generator=generator) * loudness[:, None, None, None]
    targets = (loudness - loudness.mean())[:, None].expand(8, 7) / loudness.std()
    torch.manual_seed(0)
    losses = fit(MidLevelNetwork(), windows, targets, steps=8, batch=8)
    assert len(losses) == 8
    assert np.mean(losses[-3:]) < 0.5 * losses[0]
    torch.manual_seed(0)
    assert fit(MidLevelNetwork(), windows, targets, steps=2, batch=8) == losses[:2]

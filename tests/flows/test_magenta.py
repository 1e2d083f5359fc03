"""The original's three programs: from NoteSequences to MIDI files, with its flags as they are written everywhere."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from tiny_models import write_random_generator

from dexter_model.dataset.store import open_version
from dexter_model.performance_rnn.bundle import load_model
from dexter_model.performance_rnn.config import PUBLISHED, PerformanceRnnConfig, published
from dexter_model.reading.midi import load_midi
from dexter_model.training.checkpoint import load_checkpoint
from flows.commands import magenta

ROOT = Path(__file__).parents[2]
RECORDS = ROOT / "tests" / "dexter_model" / "note_sequences" / "sequences.tfrecord"
NAME = re.compile(r"\d{4}-\d\d-\d\d_\d{6}_(\d+)[.]mid")
TINY = "--hparams=rnn_layer_sizes=[12,8],batch_size=4"


def test_the_configurations_that_ship_are_those_that_were_published() -> None:
    folder = ROOT / "configs" / "performance_rnn"
    assert {path.stem for path in folder.iterdir()} == {*PUBLISHED, "default"}
    for path in (folder / f"{name}.yaml" for name in PUBLISHED):
        values = yaml.safe_load(path.read_text())
        assert values.keys() == {"system", "store", "out", "label", "network", "training"}
        config = PerformanceRnnConfig.from_dict({name: values[name] for name in ("network", "training")})
        assert (values["system"], config) == ("performance_rnn", published(path.stem))
        assert list(config.network.layers) == values["network"]["layers"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of a few long scales, in one file, beside a file that is none of them."""
    import pretty_midi

    folder = tmp_path_factory.mktemp("magenta")
    (folder / "midi").mkdir()
    for number in range(8):
        music, piano = pretty_midi.PrettyMIDI(), pretty_midi.Instrument(0)
        for k in range(150):
            start = 0.2 * k
            piano.notes.append(pretty_midi.Note(40 + 8 * (k % 7), 40 + number + k % 12, start, start + 0.3))
        music.instruments.append(piano)
        music.write(str(folder / "midi" / f"{number}.mid"))
    magenta.create_dataset(
        [f"--input={folder / 'midi'}", f"--output_dir={folder / 'store'}", "--eval_ratio=0.4", "--log=ERROR"]
    )
    return folder / "store"


@pytest.fixture(scope="module")
def run(store: Path) -> Path:
    run_dir = store.parent / "run"
    flags = [f"--run_dir={run_dir}", f"--sequence_example_file={store}", "--num_training_steps=3", TINY]
    magenta.train([*flags, "--config=optional_multiconditioned_performance_with_dynamics", "--summary_frequency=2"])
    return run_dir


def test_create_dataset_reads_a_file_of_note_sequences_alone(tmp_path: Path) -> None:
    shutil.copy(RECORDS, tmp_path / "notesequences.tfrecord")
    (tmp_path / "other.mid").write_bytes(b"no MIDI")
    magenta.create_dataset([f"--input={tmp_path / 'notesequences.tfrecord'}", f"--output_dir={tmp_path / 'store'}"])
    opened = open_version(str(tmp_path / "store"))
    assert opened.catalogue["key"].str.starts_with("notesequences.tfrecord#").all()
    assert not opened.quarantine["performance"].str.contains("other").any()


def test_create_dataset_splits_by_ratio_and_always_alike(store: Path) -> None:
    splits = open_version(str(store)).catalogue["split"]
    assert set(splits) == {"train", "validation"}
    shares = [magenta._split(f"work {number}", 0.1) == "validation" for number in range(5000)]
    assert np.mean(shares) == pytest.approx(0.1, abs=0.02)
    assert magenta._split("anything", 0.0) == "train"


def test_train_goes_on_and_keeps_what_it_is_told_to(store: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = PerformanceRnnConfig.from_dict(load_checkpoint(run).config)
    assert config.network.layers == (12, 8)
    assert (config.training.batch_size, config.training.log_every, config.training.steps) == (4, 2, 3)
    assert config.training.threads == len(os.sched_getaffinity(0))
    flags = [f"--run_dir={run}", f"--sequence_example_file={store}", "--num_training_steps=5", TINY]
    flags.append("--config=optional_multiconditioned_performance_with_dynamics")
    magenta.train([*flags, "--num_checkpoints=0"])
    assert load_checkpoint(run).meta["step"] == 5
    magenta.train([*flags, "--num_training_steps=4"])
    assert "nothing to do" in capsys.readouterr().err
    assert [folder.name for folder in sorted((run / "checkpoints").iterdir())] == ["step_00000003", "step_00000005"]


def test_train_begins_with_the_weights_of_a_bundle(store: Path, run: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.zip"
    magenta.generate([f"--run_dir={run}", f"--bundle_file={bundle}", "--save_generator_bundle=true"])
    flags = [f"--run_dir={tmp_path / 'warm'}", f"--sequence_example_file={store}", "--num_training_steps=1"]
    name = "optional_multiconditioned_performance_with_dynamics"
    learning = "--hparams=rnn_layer_sizes=[12,8],batch_size=4,learning_rate=1e-9"
    magenta.train([*flags, f"--config={name}", f"--warm_start_bundle_file={bundle}", learning])
    begun, warm = load_model(bundle).state, load_checkpoint(tmp_path / "warm").state
    assert begun.keys() == warm.keys()
    for weight, value in begun.items():
        np.testing.assert_allclose(warm[weight], value, atol=1e-6)


def test_eval_judges_every_new_checkpoint_until_none_comes(
    store: Path, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setattr(magenta, "GIVE_UP", 0.2)
    monkeypatch.setattr(magenta, "LOOK_EVERY", 0.05)
    magenta.train([f"--run_dir={run}", f"--sequence_example_file={store}", "--eval", "--num_eval_examples=3"])
    told = capsys.readouterr().err
    step = load_checkpoint(run).meta["step"]
    assert f"step {step}: loss 5." in told
    events = EventAccumulator(str(run / "eval")).Reload()
    assert {"loss", "metrics/perplexity", "metrics/accuracy", "metrics/per_class_accuracy"} <= set(
        events.Tags()["scalars"]
    )
    assert events.Scalars("loss")[0].step == step


def program(name: str, *flags: str) -> subprocess.Popen[str]:
    """One of the programs as a process of its own."""
    code = f"from flows.commands import magenta; magenta.CHECKPOINT_EVERY = 0.5; magenta.{name}()"
    command = [sys.executable, "-c", code, *flags]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def test_generate_and_eval_beside_a_training_without_end(store: Path, tmp_path: Path) -> None:
    run_dir, data = f"--run_dir={tmp_path / 'live'}", f"--sequence_example_file={store}"
    judging = program("train", run_dir, data, "--eval", "--log=WARN")  # waits for the first checkpoint
    training = program("train", run_dir, data, "--summary_frequency=1000", TINY)
    try:
        assert judging.stderr is not None
        assert re.match(r"step [1-9]\d*: loss \d", judging.stderr.readline())
        magenta.generate([run_dir, f"--output_dir={tmp_path / 'out'}", "--num_outputs=2", "--num_steps=200"])
        assert training.poll() is None
    finally:
        for process in (training, judging):
            process.send_signal(signal.SIGINT)
    assert [process.wait(60) for process in (training, judging)] == [130, 130]
    assert len(list((tmp_path / "out").glob("*.mid"))) == 2
    assert load_checkpoint(tmp_path / "live").meta["step"] >= 1


def test_generate_from_a_run_names_files_as_the_original_does(run: Path, tmp_path: Path) -> None:
    flags = [f"--run_dir={run}", f"--output_dir={tmp_path}", "--num_outputs=11", "--num_steps=300", "--batch_size=4"]
    magenta.generate([*flags, "--primer_melody=[60,62,64,65]", "--notes_per_second=[2,8]", "--seed=3"])
    names = sorted(path.name for path in tmp_path.iterdir())
    assert [NAME.fullmatch(name)[1] for name in names] == [f"{number:02}" for number in range(1, 12)]  # type: ignore[index]
    for name in names:
        notes = load_midi(str(tmp_path / name)).notes
        assert notes["pitch"][:4].tolist() == [60, 62, 64, 65]
        assert (notes["onset_sec"] + notes["keydown_sec"]).max() <= 3.001


def test_generate_from_a_bundle_takes_every_flag(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = tmp_path / "bundle"
    saved = [f"--run_dir={run}", f"--bundle_file={bundle}", "--save_generator_bundle", "--bundle_description=Small."]
    magenta.generate(saved)
    assert load_model(bundle).meta["description"] == "Small."
    flags = [f"--bundle_file={bundle}", "--num_outputs=2", "--num_steps=200", "--temperature=0.9", "--beam_size=2"]
    flags += ["--branch_factor=2", "--steps_per_iteration=3", "--primer_pitches=(60, 64, 67)", "--top_p=0.95"]
    flags += ["--pitch_class_histogram=[2,0,1,0,1,1,0,1,0,1,0,1]", "--disable_conditioning=[False, True]", "--log=WARN"]
    flags += ["--config=performance", "--nosave_generator_bundle", "--device=cpu", "--seed=7"]
    made = []
    for folder in ("one", "two"):
        magenta.generate([*flags, f"--output_dir={tmp_path / folder}"])
        made.append([path.read_bytes() for path in sorted((tmp_path / folder).iterdir())])
    assert made[0] == made[1]
    assert len(set(made[0])) == 2
    assert str(tmp_path / "two") in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ([], "run_dir, bundle_file"),
        (["--run_dir=RUN", "--bundle_file=x.zip"], "run_dir, bundle_file"),
        (["--bundle_file=nowhere.mag"], "nowhere.mag"),
        (["--run_dir=RUN", "--config=performance"], "holds optional_multi"),
        (["--run_dir=RUN", "--primer_pitches=[60, x]"], "primer_pitches"),
        (["--run_dir=RUN", "--notes_per_second=[-2]"], "notes_per_second"),
        (["--run_dir=RUN", "--primer_melody=[60]", "--num_steps=10"], "primer"),
        (["--run_dir=RUN", "--num_outputs=0"], "num_outputs"),
        (["--save_generator_bundle", "--run_dir=RUN"], "bundle_file"),
        (["--save_generator_bundle", "--run_dir=RUN", "--bundle_file=RUN/config.zip/below.zip"], "config.zip"),
        (["--run_dir=RUN", "--disable_conditioning=5"], "disable_conditioning"),
        (["--run_dir=RUN", "--disable_conditioning='x'"], "disable_conditioning"),
        (["--run_dir=RUN", "--seed=-1"], "seed"),
        (["--run_dir=RUN", "--device=foo"], "device"),
        (["--run_dir=RUN", "--device=cuda:77"], "device"),
        (["--run_dir=RUN", "--notes_per_second=1" + 400 * "0"], "notes_per_second"),
        (["--run_dir=RUN", "--hparams=garbage==="], "hparams"),
        (["--run_dir=RUN", "--hparams=rnn_layer_sizes=[64]"], "hyper-parameters"),
        (["--run_dir=COMPOSER"], "is a model of composer"),
    ],
)
def test_generate_refuses_in_one_sentence(
    flags: list[str], told: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "config.zip").touch()
    flags = [flag.replace("RUN", str(run)) for flag in flags]
    if "--run_dir=COMPOSER" in flags:
        flags = [f"--run_dir={write_random_generator(tmp_path / 'composer', 'composer')}"]
    with pytest.raises(SystemExit) as left:
        magenta.generate([*flags, f"--output_dir={tmp_path}"])
    assert left.value.code == 2
    error = capsys.readouterr().err
    assert told in error
    assert "Traceback" not in error
    assert not list(tmp_path.glob("*.mid"))


def test_train_refuses_in_the_words_of_its_flags(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(*flags: str) -> str:
        with pytest.raises(SystemExit) as left:
            magenta.train([f"--sequence_example_file={store}", *flags])
        assert left.value.code == 2
        return capsys.readouterr().err

    for flag in ("--summary_frequency=0", "--num_training_steps=-2", "--num_checkpoints=-1", "--num_eval_examples=-1"):
        assert f"argument {flag.partition('=')[0]}" in told(flag)
    checkpoint = write_random_generator(tmp_path / "other" / "checkpoints" / "step_00000007", "composer")
    assert "holds a training of composer" in told(f"--run_dir={tmp_path / 'other'}")
    warm = (f"--run_dir={tmp_path / 'new'}", f"--warm_start_bundle_file={checkpoint}")
    assert "is a model of composer" in told(*warm)


def test_names_and_hyper_parameters_of_the_same_network_are_no_contradiction(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compact run makes a bundle as one with dynamics; a tilde is the home folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    flags = [f"--sequence_example_file={store}", "--num_training_steps=1", TINY, "--run_dir=~/compact"]
    magenta.train([*flags, "--config=performance_with_dynamics_compact"])
    saved = ["--run_dir=~/compact", "--bundle_file=~/bundle.mag", "--save_generator_bundle"]
    magenta.generate([*saved, "--config=performance_with_dynamics", TINY])
    magenta.generate(["--bundle_file=~/bundle.mag", "--output_dir=~/out", "--num_outputs=1", "--num_steps=150"])
    assert len(list((tmp_path / "out").glob("*.mid"))) == 1


@pytest.mark.parametrize("program", [magenta.create_dataset, magenta.train, magenta.generate])
def test_unknown_flags_and_help(program: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert callable(program)
    with pytest.raises(SystemExit) as left:
        program(["--help"])
    assert left.value.code == 0
    assert "--config" in capsys.readouterr().out
    with pytest.raises(SystemExit) as left:
        program(["--colour=red"])
    assert left.value.code == 2

"""The three programs of the original Performance RNN by their names, with their flags: thin over what is here.

``performance_rnn_create_dataset``, ``performance_rnn_train`` and ``performance_rnn_generate`` take ``--flag=value`` and
``--flag``, ``--noflag`` or ``--flag=false`` for switches, as the original's commands are written everywhere. What they
do otherwise is in their ``--help``. Training here is one process on this machine, with the loop and the weights, bit
for bit, of ``dexter train`` with one worker, which cannot be warm-started.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import math
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dexter_model.errors import InputError
from dexter_model.performance_rnn.config import PUBLISHED, PerformanceRnnConfig, published, with_hparams
from dexter_model.performance_rnn.settings import GenerationSettings
from dexter_model.places import is_url, join

if TYPE_CHECKING:
    from dexter_model.corpora.sources import PieceSource
    from dexter_model.dataset.store import DatasetVersion
    from dexter_model.performance_rnn.data import Examples, ResidentEvents
    from dexter_model.performance_rnn.network import PerformanceRnn
    from dexter_model.training.checkpoint import Checkpoint

FOR_EVER = 1_000_000_000  # steps, or checkpoints
CHECKPOINT_EVERY = 60.0  # s
LOOK_EVERY, GIVE_UP = 5.0, 300.0  # s between looks for a new checkpoint, and without one after the first
LISTS = {  # settings that are written as JSON or as Python writes them
    "primer_pitches": "[60, 64, 67]",
    "primer_melody": "[60, -2, 62, -1]",
    "notes_per_second": "5 or [5, 20]",
    "pitch_class_histogram": "[2,0,1,0,1,1,0,1,0,1,0,1] or several such in brackets",
    "disable_conditioning": "True or [True, False]",
}
KINDS = ("velocity_bins", "encoding", "density", "histogram", "optional")  # in which configurations differ
SAMPLING = ("num_steps", "temperature", "top_p", "beam_size", "branch_factor", "steps_per_iteration", "precision")


def create_dataset(arguments: list[str] | None = None) -> None:
    """``performance_rnn_create_dataset``."""
    parser = _parser(
        "Encode performances for training and evaluation: into one data set (a store) for all configurations, not into "
        "files of examples of one. Examples, their stretches and transpositions are made while training. The split is "
        "by a hash of the work, the same in every run, not by chance."
    )
    _add_place(parser, "input", "TFRecord file of NoteSequences, or a folder of them or of MIDI", required=True)
    _add_place(parser, "output_dir", "the data set: a folder or s3://bucket/prefix", required=True)
    _add_config(parser, "is looked at only for its name: the data set serves all")
    parser.add_argument("--eval_ratio", type=float, default=0.1, help="share of works for evaluation (default 0.1)")
    _run(parser, arguments, _create_dataset)


def train(arguments: list[str] | None = None) -> None:
    """``performance_rnn_train``."""
    parser = _parser(
        "Train on a data set's training split, going on from the last checkpoint in run_dir; or, with --eval, judge "
        "every new checkpoint there on its validation split until none comes for 300 s, for TensorBoard in "
        "run_dir/eval. Checkpoints come every minute."
    )
    _add_place(parser, "run_dir", "folder for checkpoints and summaries", default="performance_rnn/run1")
    _add_config(parser, "what to train")
    _add_place(parser, "sequence_example_file", "the data set that create_dataset made", required=True)
    _add_place(parser, "warm_start_bundle_file", "model whose weights to begin with: bundle, .mag, checkpoint")
    _add_count(parser, "num_training_steps", 0, "in all; 0: until interrupted")
    _add_count(parser, "num_eval_examples", 0, "for --eval; 0: all")
    _add_count(parser, "summary_frequency", 10, "steps between points of the curves", least=1)
    _add_count(parser, "num_checkpoints", 10, "newest ones to keep; 0: all")
    _add_switch(parser, "eval", "judge another process's training")
    parser.add_argument("--hparams", default="", help="changes to the configuration: batch_size=16,...")
    _add_device(parser)
    _run(parser, arguments, lambda flags: (_evaluate if flags.eval else _train)(flags))


def generate(arguments: list[str] | None = None) -> None:
    """``performance_rnn_generate``."""
    parser = _parser(
        "Generate performances as MIDI files YYYY-MM-DD_HHMMSS_<index>.mid, all in one batch; or, with "
        "--save_generator_bundle, make a bundle of a trained model."
    )
    _add_place(parser, "run_dir", "folder of a training, also of one under way: its last checkpoint")
    _add_place(parser, "bundle_file", "or a bundle, or a published .mag; or which to write, a folder if without ending")
    _add_switch(parser, "save_generator_bundle", "write run_dir's last checkpoint to bundle_file")
    parser.add_argument("--bundle_description", help="words that go into the bundle")
    parser.add_argument("--config", choices=PUBLISHED, metavar="NAME", help="run_dir knows; if given, it must be that")
    parser.add_argument("--hparams", default="", help="the model knows; if given, they must be its own")
    _add_place(parser, "output_dir", "folder", default="performance_rnn/generated")
    _add_count(parser, "num_outputs", 10, "how many", least=1)
    fields = GenerationSettings.__dataclass_fields__
    for name in SAMPLING:
        told = f"{fields[name].metadata['description']} (default {fields[name].default})"
        parser.add_argument(f"--{name}", type=type(fields[name].default), help=told)
    _add_place(parser, "primer_midi", fields["primer_midi"].metadata["description"])
    for name, example in LISTS.items():
        parser.add_argument(f"--{name}", metavar="LIST", help=f"{fields[name].metadata['description']}: {example}")
    _add_count(parser, "seed", None, "of all; the same seed makes the same pieces")
    _add_count(parser, "batch_size", 64, "performances made together", least=1)
    _add_device(parser)
    _run(parser, arguments, _generate)


def _parser(about: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=about, allow_abbrev=False)
    parser.add_argument(
        "--log", default="INFO", choices=("DEBUG", "INFO", "WARN", "ERROR", "FATAL"), help="what to log"
    )
    return parser


def _add_config(parser: argparse.ArgumentParser, about: str) -> None:
    told = f"{about}; one of {', '.join(PUBLISHED)} (default performance)"
    parser.add_argument("--config", default="performance", choices=PUBLISHED, metavar="NAME", help=told)


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", help="cpu or cuda (default a GPU if there is one)")


def _add_place(
    parser: argparse.ArgumentParser, name: str, about: str, *, default: str | None = None, required: bool = False
) -> None:
    told = f"{about} (default {default})" if default else about
    parser.add_argument(f"--{name}", type=os.path.expanduser, default=default, required=required, help=told)


def _add_count(parser: argparse.ArgumentParser, name: str, default: int | None, about: str, *, least: int = 0) -> None:
    def count(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} on")
        return int(text)

    told = "by chance" if default is None else default
    parser.add_argument(f"--{name}", type=count, default=default, help=f"{about} (default {told})")


def _add_switch(parser: argparse.ArgumentParser, name: str, about: str) -> None:
    parser.add_argument(f"--{name}", nargs="?", const=True, default=False, type=_truth, metavar="BOOL", help=about)
    parser.add_argument(f"--no{name}", dest=name, action="store_false", help=argparse.SUPPRESS)


def _truth(text: str) -> bool:
    values = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}
    if text.lower() not in values:
        raise argparse.ArgumentTypeError("say true or false")
    return values[text.lower()]


def _run(
    parser: argparse.ArgumentParser, arguments: list[str] | None, work: Callable[[argparse.Namespace], None]
) -> None:
    """Do it; bad input is one sentence on standard error and exit code 2, an interruption 130."""
    flags = parser.parse_args(arguments)
    logging.basicConfig(level=flags.log, format="%(levelname)s %(message)s", force=True)
    try:
        work(flags)
    except InputError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    except OSError as error:
        parser.exit(2, f"{parser.prog}: {error.filename or 'a file'}: {error.strerror or error}\n")
    except KeyboardInterrupt:
        parser.exit(130, f"{parser.prog}: interrupted; what was written stays\n")


def _create_dataset(flags: argparse.Namespace) -> None:
    from dexter_model.dataset.encodings import encoding
    from flows.build import told
    from tasks.build import build_dataset

    if not 0.0 <= flags.eval_ratio <= 1.0:
        raise InputError("eval_ratio", f"{flags.eval_ratio} is no share", "Give one in [0, 1]", "option_invalid")
    sources = [replace(each, split=_split(each.work, flags.eval_ratio)) for each in _sources(flags.input)]
    for line in told(build_dataset(sources, flags.output_dir, encoding=encoding("notes", "none"))):
        print(line, file=sys.stderr)


def _sources(place: str) -> list[PieceSource]:
    """The performances of a folder, or of a file, which may lie among others."""
    from dexter_model.corpora import discover
    from dexter_model.corpora.recordings import in_file
    from dexter_model.corpora.roots import CorpusRoots

    if is_url(place) or not Path(place).is_file():
        return discover("MIDI", CorpusRoots(data_root=place))
    found = in_file(Path(place), Path(place).name)
    if not found:
        raise InputError(place, "holds no performances", "Give a TFRecord file of NoteSequences", "no_performances")
    return found


def _split(work: str, eval_ratio: float) -> str:
    """By a hash of the work, another one than that of ``dataset.splits``: its shares are others."""
    share = int.from_bytes(hashlib.sha256(f"eval {work}".encode()).digest()[:6]) / 2**48
    return "validation" if share < eval_ratio else "train"


def _train(flags: argparse.Namespace) -> None:
    from dexter_model.performance_rnn.train_arrays import train_on_arrays
    from dexter_model.places import writing
    from dexter_model.training.loop import Hooks, Progress

    def logged(row: Progress) -> None:
        print(f"step {row.step} loss {row.loss:.4f}, {row.steps_per_sec:.2f} steps/s", file=sys.stderr, flush=True)

    config, opened, warm = _config(flags), _opened(flags), flags.warm_start_bundle_file
    begun = _begun(flags)
    if begun is not None:
        threads = PerformanceRnnConfig.from_dict(begun["config"]).training.threads
        config = replace(config, training=replace(config.training, threads=threads))
        if begun["step"] > config.training.steps:
            print(f"{begun['step']} steps were taken already: there is nothing to do", file=sys.stderr)
            return
    # Without validation, as the original: --eval beside it judges.
    with writing(flags.run_dir) as written:
        result = train_on_arrays(
            _split_of(opened, "train", config),
            None,
            config,
            written.folder,
            dataset={"version": opened.id, "digest": opened.digest},
            label=flags.config,
            device=_device(flags),
            hooks=Hooks(logged, lambda folder, row: written.push(), checkpoint_seconds=CHECKPOINT_EVERY),
            warm_start=_loaded(warm) if warm else None,
        )
    print(f"{result.step} steps, loss {result.loss:.4f}", file=sys.stderr)
    print(result.checkpoint)


def _config(flags: argparse.Namespace) -> PerformanceRnnConfig:
    config = with_hparams(published(flags.config), flags.hparams)
    training = replace(
        config.training,
        steps=flags.num_training_steps or FOR_EVER,
        log_every=flags.summary_frequency,
        keep_checkpoints=flags.num_checkpoints or FOR_EVER,
        checkpoint_every=FOR_EVER,
        threads=len(os.sched_getaffinity(0)),
    )
    return replace(config, training=training)


def _begun(flags: argparse.Namespace) -> dict[str, Any] | None:
    """What the last checkpoint in run_dir says, if there is one; with its threads a training goes on."""
    from dexter_model.training.checkpoint import last_meta

    meta = last_meta(flags.run_dir)
    if meta is not None and meta.get("system") != PerformanceRnnConfig.system:
        reason = f"holds a training of {meta.get('system', 'dexter')}"
        raise InputError(flags.run_dir, reason, "Give another --run_dir", "resume_mismatch")
    return meta


def _opened(flags: argparse.Namespace) -> DatasetVersion:
    from dexter_model.dataset.store import open_version

    opened = open_version(flags.sequence_example_file)
    opened.recordings()  # or a refusal of a data set of another kind
    return opened


def _split_of(opened: DatasetVersion, split: str, config: PerformanceRnnConfig) -> ResidentEvents:
    from dexter_model.performance_rnn.data import resident_split

    events = resident_split(opened, split, config)
    if events is None:
        raise InputError(opened.url, f"has no {split} split", "Give more works, or another --eval_ratio", "no_examples")
    return events


def _evaluate(flags: argparse.Namespace) -> None:
    """Judge checkpoints as they come, each by its own configuration, which is that of the first."""
    from torch.utils.tensorboard import SummaryWriter

    from dexter_model.performance_rnn.measures import measures, predictions
    from dexter_model.places import writing

    opened, examples = _opened(flags), None
    with writing(join(flags.run_dir, "eval")) as written, SummaryWriter(str(written.folder)) as summaries:
        for checkpoint in _new_checkpoints(flags.run_dir):
            config, network = PerformanceRnnConfig.from_dict(checkpoint.config), _network(checkpoint, flags)
            examples = examples or _judged(opened, config, flags)
            found = predictions(network, examples.batches(config.training.batch_size), config.network)
            figures, step = measures(found, config.network), int(checkpoint.meta["step"])
            for name, value in figures.items():
                summaries.add_scalar(name if name == "loss" else f"metrics/{name}", value, step)
            summaries.flush()
            told = ", ".join(f"{name} {figures[name]:.4f}" for name in ("loss", "perplexity", "accuracy"))
            print(f"step {step}: {told}", file=sys.stderr, flush=True)


def _judged(opened: DatasetVersion, config: PerformanceRnnConfig, flags: argparse.Namespace) -> Examples:
    examples = _split_of(opened, "validation", config).to(_device(flags)).examples(config)
    if not len(examples):
        raise InputError(opened.url, "has nothing to judge by", "Raise --eval_ratio", "no_examples")
    return examples.spread(flags.num_eval_examples)


def _new_checkpoints(run_dir: str) -> Iterator[Checkpoint]:
    """The last checkpoint of a training, again whenever there is a later one; none for long after the first ends it."""
    from dexter_model.training.checkpoint import last_meta

    seen, since = -1, math.inf
    logging.info("waiting for checkpoints in %s", run_dir)
    while time.monotonic() - since < GIVE_UP:
        meta = last_meta(run_dir)
        if meta is not None and meta["step"] > seen:
            seen, since = meta["step"], time.monotonic()
            yield _loaded(run_dir)
        else:
            time.sleep(LOOK_EVERY)
    logging.warning("no new checkpoint for %g s", GIVE_UP)


def _generate(flags: argparse.Namespace) -> None:
    from dexter_model.performance_rnn.making import checked

    if flags.save_generator_bundle:
        _save_bundle(flags)
        return
    if (flags.run_dir is None) == (flags.bundle_file is None):
        raise InputError("run_dir, bundle_file", "one of them, not both", "Say which model", "option_invalid")
    settings = GenerationSettings.from_flags(
        {name: getattr(flags, name) for name in (*SAMPLING, "primer_midi", *LISTS)}
    )
    checkpoint = _model(flags)
    optional = PerformanceRnnConfig.from_dict(checkpoint.config).network.optional
    if optional and not settings.disable_conditioning:
        settings = replace(settings, disable_conditioning=(False,))  # steered by its defaults, as the original
    settings = checked(checkpoint, settings)
    _write_outputs(_network(checkpoint, flags, settings.precision), settings, flags)


def _write_outputs(network: PerformanceRnn, settings: GenerationSettings, flags: argparse.Namespace) -> None:
    import numpy as np

    from dexter_model.codec.performance_midi import write_performance_midi
    from dexter_model.performance_rnn.generation import as_performance, generate

    seed = secrets.randbelow(2**32) if flags.seed is None else flags.seed
    seeds = np.random.SeedSequence(seed).generate_state(flags.num_outputs, np.uint64).tolist()
    now, digits = datetime.now().strftime("%Y-%m-%d_%H%M%S"), len(str(flags.num_outputs))
    for first in range(0, flags.num_outputs, flags.batch_size):
        made = generate(network, settings, seeds[first : first + flags.batch_size])
        for index, each in enumerate(made, first + 1):
            place = join(flags.output_dir, f"{now}_{index:0{digits}}.mid")
            write_performance_midi(as_performance(each), place)
            print(place)
    logging.info("%d performances of seed %d", flags.num_outputs, seed)


def _save_bundle(flags: argparse.Namespace) -> None:
    from dexter_model.performance_rnn.bundle import write_bundle

    if flags.run_dir is None or flags.bundle_file is None:
        remedy = "Say --run_dir and --bundle_file"
        raise InputError("save_generator_bundle", "which model, or where to", remedy, "option_invalid")
    digest = write_bundle(_model(flags), flags.bundle_file, flags.bundle_description or "")
    print(f"{flags.bundle_file} {digest}")


def _model(flags: argparse.Namespace) -> Checkpoint:
    """The model that is to be used, or bundled, with a look at its configuration."""
    place = flags.run_dir or flags.bundle_file
    checkpoint = _loaded(place)
    config = PerformanceRnnConfig.from_dict(checkpoint.config)
    network = config.network
    asked = PUBLISHED[flags.config] if flags.run_dir and flags.config else network  # a bundle knows better
    if any(getattr(asked, name) != getattr(network, name) for name in KINDS):
        raise InputError(place, f"holds {network.name}, not {flags.config}", "Leave --config out", "config_invalid")
    if replace(with_hparams(config, flags.hparams).network, keep=network.keep) != network:
        raise InputError(place, "has other hyper-parameters", "Leave --hparams out", "config_invalid")
    return checkpoint


def _loaded(place: str) -> Checkpoint:
    """A model of Performance RNN, or a refusal of one of another system."""
    from tasks.generate import load_model

    return load_model(PerformanceRnnConfig.system, place)


def _network(
    checkpoint: Checkpoint, flags: argparse.Namespace, precision: Literal["float32", "bfloat16"] = "float32"
) -> PerformanceRnn:
    from dexter_model.performance_rnn.generation import load_network

    return load_network(checkpoint, precision).to(_device(flags))


def _device(flags: argparse.Namespace) -> str:
    import torch

    device: str = flags.device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = f"{device} cannot be used ({str(error).splitlines()[0]})"
        raise InputError("device", reason, "Give cpu, or cuda where there is a GPU", "option_invalid") from None
    return device

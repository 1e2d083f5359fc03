"""One unit of work: folders of generated music and a data set in, how like people's music it is out.

Each generated file is a job of its own, read in a sandbox; a few run in this process, many are fanned out. The data
set's own music is read here: it comes shard by shard, and all of training is needed at once to look copies up. What is
written depends on the data set, the files, the code and the seed alone: no times, no paths.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dexter_model.dataset.recordings import Recording
from dexter_model.dataset.store import DatasetVersion, open_version
from dexter_model.digests import code_version, file_digest, json_digest, sha256_bytes
from dexter_model.errors import InputError
from dexter_model.metrics.contests import Refused
from dexter_model.metrics.generated import (
    HALVES,
    HUMAN,
    RESAMPLES,
    Played,
    distributions,
    judged,
    rows,
)
from dexter_model.metrics.generated_copies import LENGTHS, NOTHING, Training, steps
from dexter_model.metrics.generated_features import LEAST_NOTES, SECONDS, Excerpts, excerpts
from dexter_model.metrics.generated_regression import GeneratedTolerance
from dexter_model.notes import RECORDED_NOTE
from dexter_model.places import absolute, copy_of, join, local, name_of, names, shown, write
from dexter_model.reading.recording import MIDI, load_recording
from dexter_model.reading.sandbox import Sandbox
from dexter_model.renders import JOURNAL, LISTING
from dexter_model.tally import count
from tasks.cluster import WorkerDied, fan_out
from tasks.judge_baseline import DRAWS, JUDGEMENT, draws_of, hold_against, read_baseline
from tasks.orchestration import task
from tasks.progress import track

FORMAT = "dexter-judgement-2"
SEED = 13
FEW_FILES = 200  # read in this process unless asked otherwise
LISTED = 3  # pieces of each system with the longest copied runs
HELD_OUT, TRAINING = "test", "train"


@dataclass(frozen=True)
class GeneratedFile:
    """A MIDI file of a system, or its URL; ``name`` is its path in the system's folder."""

    system: str
    name: str
    path: str


@dataclass(frozen=True, eq=False)
class Heard:
    """What is kept of a piece once its notes were looked at."""

    excerpts: Excerpts
    steps: np.ndarray


@dataclass(frozen=True)
class JudgeResult:
    """What was written: the folder, a digest of every figure, the rows (``metrics.generated.rows``), who was refused.

    ``regression`` is the verdict on it beside a baseline (``metrics.generated_regression``), None where there was none.
    """

    out: str
    digest: str
    rows: list[dict[str, Any]]
    pieces: int
    refused: list[dict[str, str]]
    regression: dict[str, Any] | None = None


class FileReader:
    """Reads generated files, in a child process that it keeps."""

    def __init__(self) -> None:
        self.sandbox = Sandbox()

    def run(self, job: GeneratedFile) -> Heard | Refused:
        """What a file sounds like, or why it cannot be read."""
        try:
            return hear(self.sandbox.call(load_recording, str(local(job.path))))
        except Exception as error:  # whatever a parser trips over is that file's trouble
            code = error.code if isinstance(error, InputError) else "performance_unreadable"
            reason = error.reason if isinstance(error, InputError) else str(error).partition("\n")[0]
            return Refused(job.system, job.name, code, reason)

    def close(self) -> None:
        """End the child process."""
        self.sandbox.close()


def hear(notes: np.ndarray) -> Heard:
    """What of a piece's notes (n,) RECORDED_NOTE is compared."""
    return Heard(excerpts(notes), steps(notes))


@task(name="judge")
def judge(
    store_url: str,
    folders: Mapping[str, str | Path],
    out: str | Path,
    version: str | None = None,
    *,
    baseline: str | Path | None = None,
    tolerance: GeneratedTolerance | None = None,
    workers: int | None = None,
    seed: int = SEED,
) -> JudgeResult:
    """Compare generated music with the held-out music of a data set, and look for copies of its training music.

    Writes ``judgement.json`` (figures with 95 % intervals, distributions, every piece's copies) and ``draws.parquet``
    (what intervals and later regressions are made of) into ``out``.

    Args:
        store_url: the data set, of encoding ``notes``.
        folders: of MIDI files at any depth, by what tables call the system.
        out: folder.
        version: of the data set; the current one when None.
        baseline: folder of an earlier judgement to compare with; a verdict is written, nothing is raised.
        tolerance: how much worse than the baseline is tolerated.
        workers: Ray actors; 0 does all in this process, None decides by the number of files.
        seed: of the halves of the held-out music and of the bootstrap.

    Raises:
        InputError: a folder holds no MIDI file, or none that can be read (``nothing_generated``), or a job has not
            ended there (``renders_unreadable``); the data set holds no notes (``other_encoding``), notes of another
            clock (``other_reading``) or too few works (``no_held_out``); or the baseline cannot be read
            (``baseline_unreadable``), would be overwritten (``baseline_is_out``) or is on other music
            (``baseline_unlike``).
    """
    if HUMAN in folders:
        raise InputError(HUMAN, "is what people are called in tables", "Choose another name", "option_invalid")
    earlier = read_baseline(baseline, out) if baseline is not None else None
    data = open_version(store_url, version)
    data.refuse_other_reading()
    listings = {system: _listing(folder) for system, folder in folders.items()}
    jobs = [job for system, folder in folders.items() for job in _files(system, folder, listings[system])]
    training = Training((_name(r), steps(r.notes)) for r in data.recordings(TRAINING))
    held_out, synthetic = _held_out(data, training)
    heard, refused = _heard(jobs, workers)
    if not heard:
        raise InputError(", ".join(folders), f"no file can be read: {refused[0].reason}", "", "nothing_generated")
    systems = _systems(jobs, heard, training)
    tables = judged(systems, held_out, seed)
    content = _content(data, jobs, systems, held_out, training, seed)
    content["held_out"]["synthetic"] = synthetic
    for row in content["systems"]:
        row["trained_on"] = ((listings[row["name"]] or {}).get("checkpoint") or {}).get("dataset")
    content |= {"rows": rows(tables), "refused": [asdict(each) for each in refused]}
    draws = draws_of(tables)
    content["draws_digest"] = sha256_bytes(draws)
    if earlier is not None:
        content["regression"] = hold_against(earlier, tables, content, tolerance or GeneratedTolerance())
    write(join(out, DRAWS), draws)
    write(join(out, JUDGEMENT), (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())
    digest = json_digest([content["draws_digest"], content["rows"], content["pieces"]])
    verdict = content.get("regression")
    return JudgeResult(str(out), digest, content["rows"], len(jobs), content["refused"], verdict)


def by_name(renders: Sequence[str | Path], named: Mapping[str, str | Path]) -> dict[str, str | Path]:
    """Folders by what tables call them: some by their own names, the others as they are named.

    Raises:
        InputError: two have one name (``option_invalid``).
    """
    folders = {**{name_of(folder): folder for folder in renders}, **named}
    if len(folders) < len(renders) + len(named):
        remedy = "Name them with --external NAME=FOLDER"
        raise InputError("--renders", "has two folders of one name", remedy, "option_invalid")
    return folders


def _files(system: str, folder: str | Path, listing: Mapping[str, Any] | None) -> list[GeneratedFile]:
    """The MIDI files that a folder lists (``renders.json``), or all of it, hidden ones aside."""
    below = local(folder, missing_ok=True)
    found = [name for name in names(below) if name.lower().endswith(MIDI) and not Path(name).name.startswith(".")]
    if listing is not None:
        ours = {row["midi"] for row in listing["renders"]}
        found = [name for name in found if name in ours]  # not what earlier jobs left
    if not found:
        raise InputError(folder, "holds no MIDI file", "Give the folder of generated pieces", "nothing_generated")
    return [GeneratedFile(system, name, shown(absolute(below / name))) for name in found]


def _listing(folder: str | Path) -> dict[str, Any] | None:
    """What a job says of its folder (``renders.json``); None of MIDI files alone.

    Raises:
        InputError: it is damaged, or the job has not ended there (``renders_unreadable``).
    """
    below = local(folder, missing_ok=True)
    if not (below / LISTING).exists():
        if (below / JOURNAL).exists():
            raise InputError(folder, "a job has not ended there", "Run it again", "renders_unreadable")
        return None
    try:
        content: dict[str, Any] = json.loads((below / LISTING).read_bytes())
        assert all(isinstance(row["midi"], str) for row in content["renders"])
        assert isinstance((content.get("checkpoint") or {}).get("dataset") or {}, dict)
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
        reason = f"its {LISTING} is damaged ({type(error).__name__})"
        raise InputError(folder, reason, "Make it again, or delete that file", "renders_unreadable") from error
    return content


def _name(recording: Recording) -> str:
    return f"{recording.corpus}/{recording.key}"


def _held_out(data: DatasetVersion, training: Training) -> tuple[list[Played], bool]:
    """People's pieces of the held-out split, or where there are none those that rules made; and which these are."""
    every = [(r.performances[0]["synthetic"], r, hear(r.notes)) for r in data.recordings(HELD_OUT)]
    synthetic = all(made for made, _, _ in every)
    real = [(r, heard) for made, r, heard in every if made == synthetic]
    return [Played(_name(r), r.work, heard.excerpts, training.copied(heard.steps)) for r, heard in real], synthetic


def _heard(jobs: Sequence[GeneratedFile], workers: int | None) -> tuple[dict[int, Heard], list[Refused]]:
    """What could be read, by number of the job, and what could not."""
    wanted = 0 if workers is None and len(jobs) < FEW_FILES else workers
    make: Callable[[], FileReader] = FileReader
    shared = sorted({job.path.removesuffix(f"/{job.name}") for job in jobs})
    found: dict[int, Heard | Refused] = {}
    for number, result in track(
        fan_out(make, jobs, workers=wanted, shared=shared), len(jobs), "Reading generated music"
    ):
        found[number] = _died(jobs[number], result) if isinstance(result, WorkerDied) else result
        count("pieces_done", work="judge")
    refused = [each for _, each in sorted(found.items()) if isinstance(each, Refused)]
    for each in refused:
        count("quarantined", work="judge", code=each.code)
    return {number: each for number, each in found.items() if isinstance(each, Heard)}, refused


def _died(job: GeneratedFile, died: WorkerDied) -> Refused:
    return Refused(job.system, job.name, "worker_died", died.reason)


def _systems(jobs: Sequence[GeneratedFile], heard: Mapping[int, Heard], training: Training) -> dict[str, list[Played]]:
    """What each system played; a file that cannot be read is a silent piece."""
    systems: dict[str, list[Played]] = {}
    silence = excerpts(np.zeros(0, RECORDED_NOTE))
    for number, job in enumerate(jobs):
        piece = heard.get(number)
        copied = training.copied(piece.steps) if piece else NOTHING
        played = Played(job.name, f"{job.system}/{job.name}", piece.excerpts if piece else silence, copied)
        systems.setdefault(job.system, []).append(played)
    return systems


def _content(
    data: DatasetVersion,
    jobs: Sequence[GeneratedFile],
    systems: Mapping[str, Sequence[Played]],
    held_out: Sequence[Played],
    training: Training,
    seed: int,
) -> dict[str, Any]:
    """``judgement.json`` but its figures: where they come from, the distributions, the pieces."""
    files = {name: [[j.name, file_digest(copy_of(j.path))] for j in jobs if j.system == name] for name in systems}
    of_held_out = data.catalogue.filter(split=HELD_OUT).sort("corpus", "key").select("corpus", "key", "digest").rows()
    about = [{"name": name, "digest": json_digest(files[name]), **_about(played)} for name, played in systems.items()]
    return {
        "format": FORMAT,
        "data_set": {"version": data.id, "digest": data.digest},
        "held_out": {"digest": json_digest(of_held_out), "works": len({p.work for p in held_out}), **_about(held_out)},
        "training": {"pieces": len(training.names), "left_out": training.left_out, "notes": training.notes},
        "excerpts": {"seconds": SECONDS, "least_notes": LEAST_NOTES},
        "systems": about,
        "code_version": code_version(),
        "seed": seed,
        "bootstrap": {"unit": "piece", "level": 0.95, "resamples": RESAMPLES, "halves": HALVES},
        "distributions": distributions({**systems, HUMAN: held_out}),
        "pieces": [_piece(name, each) for name, pieces in systems.items() for each in pieces if each.copied.notes],
        "longest": [row for name, pieces in {**systems, HUMAN: held_out}.items() for row in _longest(name, pieces)],
    }


def _about(pieces: Sequence[Played]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for piece in pieces:
        found.update(excerpts=len(piece.excerpts), sparse=piece.excerpts.sparse, notes=piece.copied.notes)
    return {"pieces": len(pieces), "excerpts": found["excerpts"], "sparse": found["sparse"], "notes": found["notes"]}


def _longest(system: str, pieces: Sequence[Played]) -> list[dict[str, Any]]:
    """The pieces with the longest copied runs."""
    order = sorted(pieces, key=lambda piece: (-piece.copied.longest, piece.name))
    return [_piece(system, piece) for piece in order[:LISTED]]


def _piece(system: str, played: Played) -> dict[str, Any]:
    copied = played.copied
    rates = {str(n): copied.rate(n) if copied.sequences[n] else None for n in LENGTHS}
    found = {"system": system, "piece": played.name, "notes": copied.notes, "copied": rates}
    return found | {"longest": copied.longest, "nearest": copied.nearest}

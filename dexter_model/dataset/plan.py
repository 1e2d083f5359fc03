"""What a build has to do, and why: the sources found now against what the current version was made of.

The key of a piece's result is the digest of everything that decides it (its files, its description, the encoder). A
piece runs when that differs from what the version holds, or when a failure of it may pass; the reason is told in words.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dexter_model.corpora.sources import PerformanceSource, PieceSource
from dexter_model.dataset.encodings import Codecs, Encoding
from dexter_model.dataset.piece import digest_or_empty
from dexter_model.dataset.splits import split_of_works
from dexter_model.digests import json_digest
from dexter_model.places import copy_of, record_of

if TYPE_CHECKING:
    from dexter_model.dataset.store import DatasetVersion

# Tried again by the next build: failures of a machine. A parser's limits count what the file alone decides.
TRANSIENT = frozenset({"unreadable", "worker_died"})
SHARD_BYTES = 32 << 20  # of sources at most: some 10 MB of arrays
SHARDS_WANTED = 16  # small corpora are cut too, so that workers share the work and a killed build loses little of it
RECORD_BYTES = 20_000  # of a performance in a file of many, more or less
_REASONS_TOLD = 3
CODECS = Codecs()
Fingerprint = Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    """A piece to encode. ``result`` is the key of its result, ``attempt`` tells a repetition from the first try."""

    source: PieceSource
    fingerprint: Fingerprint
    reason: str
    attempt: str = ""

    @property
    def result(self) -> str:
        """Digest of everything that decides the result."""
        return json_digest(self.fingerprint)

    @property
    def name(self) -> str:
        """What names the shard the piece goes into."""
        return self.result + self.attempt

    def source_row(self) -> dict[str, str]:
        """Row of the version's table of sources, which the next plan compares with."""
        told = json.dumps(self.fingerprint, sort_keys=True)
        return {"corpus": self.source.corpus, "key": self.source.key, "result": self.result, "fingerprint": told}


@dataclass(frozen=True)
class Plan:
    """Pieces to encode, and pieces (corpus, key) that stay as they are, that are gone, and that today's rule of splits
    has on another side than the version: these need nothing but to be published.
    """

    runs: tuple[Run, ...]
    unchanged: tuple[tuple[str, str], ...]
    removed: tuple[tuple[str, str], ...]
    resplit: tuple[tuple[str, str], ...] = ()

    @property
    def changes_nothing(self) -> bool:
        """Whether the version already is what the sources say."""
        return not self.runs and not self.removed and not self.resplit


def plan_build(
    sources: Iterable[PieceSource],
    version: DatasetVersion | None,
    *,
    encoding: Encoding = CODECS,
    retry_quarantined: bool = False,
    verify: bool = False,
) -> Plan:
    """Compare sources with a version.

    Args:
        sources: every piece that the version to build is to hold.
        version: the current version; None when there is none.
        encoding: what the version is to hold of them.
        retry_quarantined: run pieces with quarantined performances again, whatever the reason was.
        verify: read every file, instead of trusting size and modification time.
    """
    before: dict[tuple[str, str], Fingerprint] = {}
    failed: dict[tuple[str, str], set[str]] = {}
    if version is not None:
        before = {(row[0], row[1]): json.loads(row[3]) for row in version.sources.iter_rows()}
        for corpus, piece, code in version.quarantine.select("corpus", "piece", "code").iter_rows():
            failed.setdefault((corpus, piece), set()).add(code)
    runs, unchanged = [], []
    found = {(source.corpus, source.key): source for source in sources}
    for place, source in sorted(found.items()):
        now = fingerprint(source, encoding, verify=verify)
        reason = reason_to_run(now, before.get(place))
        retry = None if reason else reason_to_retry(failed.get(place, set()), retry_quarantined=retry_quarantined)
        if reason:
            runs.append(Run(source, now, reason))
        elif retry:
            assert version is not None
            runs.append(Run(source, now, retry, attempt=version.id))
        else:
            unchanged.append(place)
    resplit = () if version is None else pieces_to_resplit(version)
    return Plan(tuple(runs), tuple(unchanged), tuple(sorted(before.keys() - found.keys())), resplit)


def pieces_to_resplit(version: DatasetVersion) -> tuple[tuple[str, str], ...]:
    """Corpus and key of the version's pieces that ``splits.split_of_works`` has in another split than the version."""
    splits = split_of_works(version.catalogue["work"])
    rows = version.catalogue.select("corpus", "key", "work", "assigned", "split").iter_rows()
    return tuple((corpus, key) for corpus, key, work, assigned, split in rows if split != (assigned or splits[work]))


def fingerprint(source: PieceSource, encoding: Encoding = CODECS, *, verify: bool = False) -> Fingerprint:
    """Everything that decides a piece's result, as a JSON value; a missing file has an empty digest."""
    names = ("corpus", "key", "work", "composer", "title", *(["split"] if source.split else []))
    return {
        "encoder": encoding.described(),
        "piece": {name: getattr(source, name) for name in names},
        "score": digest_or_empty(source.score, verify=verify),
        "performances": {each.key: _performance(each, encoding.perceptual, verify) for each in source.performances},
    }


def _performance(source: PerformanceSource, perceptual: str, verify: bool) -> Fingerprint:
    csv = source.features if perceptual == "csv" else None
    told = [] if source.robust else ["not robust"]
    told += [source.recording] if source.recording else []
    return {
        "performance": digest_or_empty(source.performance, verify=verify),
        "alignment": digest_or_empty(source.alignment, verify=verify),
        "perceptual": digest_or_empty(csv, verify=verify),
        "described": [source.performer, source.synthetic, *told],
    }


def reason_to_run(now: Fingerprint, before: Fingerprint | None) -> str | None:
    """Why a piece runs, None when nothing about it changed."""
    if before is None:
        return "new"
    if now == before:
        return None
    reasons = []
    if now["encoder"] != before["encoder"]:
        reasons.append(_encoder_changed(before["encoder"], now["encoder"]))
    changed = [name for name, value in now["piece"].items() if before["piece"].get(name) != value]
    reasons += [f"{name} changed" for name in changed]
    if now["score"] != before["score"]:
        reasons.append(_change("score", before["score"], now["score"]))
    for key in sorted(now["performances"].keys() | before["performances"].keys()):
        reasons += _performance_reasons(key, now["performances"].get(key), before["performances"].get(key))
    told = reasons[:_REASONS_TOLD]
    more = [f"and {len(reasons) - len(told)} more"] if len(reasons) > len(told) else []
    return "; ".join([*told, *more])


def _encoder_changed(before: Fingerprint, now: Fingerprint) -> str:
    """Which of an encoder's name, version and parameters changed, in words."""
    old, new = (_flat(encoder) for encoder in (before, now))
    changed = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
    return ", ".join(f"{name} {old.get(name, 'unknown')} became {new.get(name, 'unknown')}" for name in changed)


def _flat(encoder: Fingerprint) -> dict[str, Any]:
    return {"encoder": f"{encoder['name']} {encoder['version']}", **encoder["parameters"]}


def _performance_reasons(key: str, now: Fingerprint | None, before: Fingerprint | None) -> list[str]:
    if now is None or before is None:
        return [f"performance {key} {'added' if before is None else 'removed'}"]
    names = {
        "performance": f"performance {key}",
        "alignment": f"alignment of {key}",
        "perceptual": f"perceptual features of {key}",
    }
    files = {told: (before.get(name, ""), now.get(name, "")) for name, told in names.items()}
    reasons = [_change(told, *digests) for told, digests in files.items() if digests[0] != digests[1]]
    return reasons + ([f"description of {key} changed"] if now["described"] != before["described"] else [])


def _change(what: str, before: str, now: str) -> str:
    return f"{what} {'changed' if before and now else 'added' if now else 'removed'}"


def reason_to_retry(codes: set[str], *, retry_quarantined: bool) -> str | None:
    """Why an unchanged piece with quarantined performances is tried again, None when it is not."""
    passing = sorted(codes if retry_quarantined else codes & TRANSIENT)
    return f"quarantined before: {', '.join(passing)}" if passing else None


def cut_shards(runs: Sequence[Run]) -> list[tuple[Run, ...]]:
    """Cut runs, in their order, into the shards they are written to.

    The cut depends on the runs and the sizes of their files only, so that a build that goes on after a kill, or with
    other workers, makes the same shards.
    """
    sizes = [source_bytes(run.source) for run in runs]
    target = min(SHARD_BYTES, sum(sizes) / SHARDS_WANTED)
    shards: list[list[Run]] = []
    filled = target
    for run, size in zip(runs, sizes, strict=True):
        if filled >= target:
            shards.append([])
            filled = 0
        shards[-1].append(run)
        filled += size
    return [tuple(shard) for shard in shards]


def source_bytes(source: PieceSource) -> int:
    """Size of a piece's alignments, which tells how much work and how large a result it is."""
    return sum(_size(performance.alignment or performance.performance) for performance in source.performances)


def _size(path: str) -> int:
    if record_of(path)[1]:
        return RECORD_BYTES
    return os.path.getsize(copy_of(path)) if copy_of(path).is_file() else 0

"""A data set version from the original's HDF5 files: ours come back whole, others as far as they hold what is needed.

Of files of the original are lost: the mixups (made anew when wanted), which rows are padded (all count as played), and
the split (works decide it; how many windows change sides is told). The beats of a score come from its file, where
``score_path``, after remapping, leads to it and the note ids name its notes; elsewhere beats are NaN and the notes have
no other markings: such pieces can be trained on with the published condition, but not decoded. Perceptual features
become a frame a note.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dexter_model.codec.performance_codec import MAX_TEMPO, decode
from dexter_model.corpora.works import work_of
from dexter_model.dataset.build import SHARD_CELLS, Build, Tables, building, gathered, shard_name, write_shard
from dexter_model.dataset.hdf5 import KNOWN_REASONS, NOTE_ARRAYS, S_CODEC, remapped
from dexter_model.dataset.hdf5_reading import DAMAGED, Listed, Stored, is_file, list_groups, read_group, read_ids
from dexter_model.dataset.packing import FRAME_ARRAYS, PERFORMANCES, Row
from dexter_model.dataset.piece import Piece, Quarantined, digest_or_empty
from dexter_model.dataset.store import DatasetVersion
from dexter_model.digests import json_digest
from dexter_model.errors import InputError
from dexter_model.notes import SCORE_NOTE, Alignment, Score
from dexter_model.perceptual.features import unknown_values
from dexter_model.places import absolute
from dexter_model.reading.alignment import score_as_aligned
from dexter_model.reading.sandbox import Sandbox
from dexter_model.reading.score import load_score

LISTING_SEC = 3600.0  # processor time for going through a whole file


@dataclass
class Imported:
    """The version, and what was lost on the way, in words with how many it concerns."""

    version: DatasetVersion
    lost: Counter[str] = field(default_factory=Counter)


def import_hdf5(
    path: str | Path,
    url: str,
    sandbox: Sandbox,
    *,
    path_remap: Mapping[str, str] | None = None,
    progress: Callable[[float], None] = lambda done: None,
) -> Imported:
    """Make the data set at ``url`` hold exactly what an HDF5 file does.

    Args:
        path: a ``codec_N={N}[_mixup].hdf5``.
        url: a folder or ``s3://bucket/prefix``.
        sandbox: the child process that reads the files.
        path_remap: old and new beginnings of the paths in the file.
        progress: called with the performances read so far.

    Raises:
        InputError: the file cannot be read (``hdf5_unreadable``) or holds no performance, or the store is busy.
    """
    path, url = Path(path).absolute(), absolute(url)
    window, listed = sandbox.call(list_groups, str(path), timeout=LISTING_SEC)
    reader = _Reader(path, sandbox, dict(path_remap or {}))
    made_by = {"name": "import-hdf5", "version": 1, "parameters": {"window": window}}
    quarantined = [_quarantined(group) for group in listed if not group.rows]
    with building(url) as build:
        tables = []
        for pieces in _shards(_pieces(reader, listed, progress)):
            tables.append(_commit(build, pieces, [], made_by))
        quarantined += reader.quarantined
        if quarantined:
            tables.append(_commit(build, [], quarantined, made_by))
        version = build.publish(gathered(tables), made_by)
    for corpus, key, split in version.catalogue.select("corpus", "key", "split").rows():
        theirs = reader.splits[corpus, key]
        reader.lost["windows that the file has in another split: here works decide it"] += (
            theirs.total() - theirs[split]
        )
    return Imported(version, +reader.lost)


class _Reader:
    """One file being read, and what is told of it at the end."""

    def __init__(self, path: Path, sandbox: Sandbox, remap: Mapping[str, str]) -> None:
        self.path = path
        self.sandbox = sandbox
        self.remap = remap
        self.lost: Counter[str] = Counter()
        self.splits: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)  # windows, of corpus and piece
        self.quarantined: list[Quarantined] = []

    def refuse(self, groups: Iterable[Listed], reason: str) -> None:
        """Put performances into quarantine."""
        self.quarantined += [_quarantined(group, reason) for group in groups]

    def stored(self, members: Sequence[Listed]) -> list[tuple[Listed, Stored]]:
        """The performances that can be read; it is noted which cannot."""
        read = []
        for group in members:
            try:
                read.append((group, self.sandbox.call(read_group, str(self.path), group.group)))
            except InputError as error:
                self.refuse([group], error.reason)
        return read

    def ids(self, stored: Stored) -> np.ndarray | None:
        """The note ids (n,), if files of them are there and are of these notes."""
        places = [str(self.path.parent / remapped(path, self.remap)) for path in stored.id_paths]
        try:
            ids = self.sandbox.call(read_ids, places)
        except InputError:
            ids = None
        if ids is None or len(ids) != len(stored.s_codec) or len(set(ids.tolist())) != len(ids):
            self.lost["pieces whose note ids are not to be had"] += 1
            return None
        return ids

    def score(self, stored: Stored, ids: np.ndarray | None) -> tuple[np.ndarray, str]:
        """The notes (n,) SCORE_NOTE of the score's file and the file's digest; of ``s_codec`` alone, and ''."""
        place = str(self.path.parent / remapped(stored.score_path, self.remap))
        notes = self._from_file(place, ids, stored) if ids is not None and is_file(place) else None
        if notes is not None:
            digest = digest_or_empty(place)
        else:
            self.lost["pieces of which only divs are known, not beats nor markings"] += 1
            notes, digest = np.zeros(len(stored.s_codec), SCORE_NOTE), ""
            for name in ("onset_beat", "duration_beat", "metrical_position"):
                notes[name] = np.nan
        for column, name in enumerate(S_CODEC):
            notes[name] = stored.s_codec[:, column]
        return notes, digest

    def _from_file(self, place: str, ids: np.ndarray, stored: Stored) -> np.ndarray | None:
        """The notes of a score's file with these ids; None when the file is of another score."""
        alignment = Alignment(ids, ids)
        try:
            score: Score = score_as_aligned(alignment, lambda unfold: self.sandbox.call(load_score, place, unfold))
        except InputError:
            return None
        row_of = {note_id: row for row, note_id in enumerate(score.note_id.tolist())}
        rows = np.array([row_of.get(note_id, -1) for note_id in ids.tolist()])
        if (rows < 0).any() or (score.notes["pitch"][rows] != stored.s_codec[:, 2]).any():
            return None
        return score.notes[rows]


def _pieces(reader: _Reader, listed: Sequence[Listed], progress: Callable[[float], None]) -> Iterator[Piece]:
    """The pieces of the file; performances of a piece that name other notes are a piece of their own."""
    groups = _by_piece(reader, listed)
    done = 0
    for (corpus, key), forms in sorted(groups.items()):
        ordered = sorted(forms.values(), key=len, reverse=True)
        for number, members in enumerate(ordered):
            done += len(members)
            progress(done)
            name = f"{key}~{number + 1}" if number else key
            if number and (corpus, name) in groups:
                reader.refuse(members, f"it names other notes than most of its piece, and {name} is another piece")
                continue
            if number:
                reader.lost["performances of other notes than most of their piece, now a piece of their own"] += 1
            piece = _piece(reader, corpus, name, reader.stored(members))
            if piece is not None:
                yield piece


def _by_piece(reader: _Reader, listed: Sequence[Listed]) -> dict[tuple[str, str], dict[str, list[Listed]]]:
    """The groups of performances by corpus and key of their piece, and by the notes they name."""
    groups: dict[tuple[str, str], dict[str, list[Listed]]] = {}
    seen: set[tuple[str, str, str]] = set()
    for group in listed:
        key = _text(group.about, "piece", "key") or group.piece
        name = (group.corpus, key, _performance_key(group))
        if group.rows and not _is_key(key):
            reader.refuse([group], "the name of its piece is no relative path")
        elif group.rows and name in seen:
            reader.refuse([group], f"another performance of its piece has its key {name[2]} too")
        elif group.rows:
            seen.add(name)
            groups.setdefault((group.corpus, key), {}).setdefault(group.rows, []).append(group)
    return groups


def _piece(reader: _Reader, corpus: str, key: str, read: Sequence[tuple[Listed, Stored]]) -> Piece | None:
    """A piece of the performances that could be read; None when there is none, or they make no piece."""
    if not read:
        return None
    try:
        piece = _stacked(reader, corpus, key, read)
    except OSError:  # this machine has no child process to offer
        raise
    except (InputError, *DAMAGED) as error:
        unforeseen = f"{type(error).__name__}: {error}".partition("\n")[0]
        reader.refuse([group for group, _ in read], error.reason if isinstance(error, InputError) else unforeseen)
        return None
    for _, stored in read:
        reader.lost["windows of mixups, left out"] += stored.mixups
        reader.splits[corpus, key].update(stored.splits)
    return piece


def _stacked(reader: _Reader, corpus: str, key: str, read: Sequence[tuple[Listed, Stored]]) -> Piece:
    first, stored = read[0]
    ids = reader.ids(stored)
    own = next((stored.own["score"] for _, stored in read if "score" in stored.own), None)
    written = own is not None and all((own[name] == stored.s_codec[:, i]).all() for i, name in enumerate(S_CODEC))
    notes, digest = (own, "") if own is not None and written else reader.score(stored, ids)
    if any((np.diff(notes[name]) < 0).any() or np.isinf(notes[name]).any() for name in ("onset_div", "onset_beat")):
        raise InputError(key, "its notes are not in the order of the score", "Export it again", "hdf5_damaged")
    ids = ids if ids is not None else np.array([f"row{row}" for row in range(len(notes))])
    blocks = [_blocks(stored) for _, stored in read]
    heard = [_heard(stored, notes, ids, reader.lost) for _, stored in read]
    arrays: dict[str, Any] = {name: np.stack([block[name] for block in blocks]) for name in NOTE_ARRAYS}
    arrays |= {name: np.concatenate([one[name] for one in heard]) for name in FRAME_ARRAYS}
    described: dict[str, Any] = _description(first, corpus, key, digest)
    return Piece(
        corpus,
        key,
        **described,
        note_id=ids,
        score=notes,
        performance=np.stack([stored.p_codec for _, stored in read]),
        performances=[_row(group, stored, one) for (group, stored), one in zip(read, heard, strict=True)],
        frames=np.array([len(one["frame_time"]) for one in heard], np.int32),
        **arrays,
    )


def _blocks(stored: Stored) -> dict[str, np.ndarray]:
    """``NOTE_ARRAYS`` (n,) of a performance: ours, or every row played and key-down durations as the sounding ones."""
    played = np.ones(len(stored.p_codec), bool)
    default = {"matched": played, "named": played, "keydown_articulation": stored.p_codec[:, 3]}
    kinds = {"matched": np.bool_, "named": np.bool_, "keydown_articulation": np.float32}
    return {name: stored.own.get(name, default[name]).astype(kinds[name]) for name in NOTE_ARRAYS}


def _heard(stored: Stored, notes: np.ndarray, ids: np.ndarray, lost: Counter[str]) -> dict[str, np.ndarray]:
    """``FRAME_ARRAYS`` of a performance: ours, or a frame at the onset of each note whose features are known.

    The original writes zeros where it knows none.
    """
    if FRAME_ARRAYS.keys() <= stored.own.keys():
        return {name: stored.own[name] for name in FRAME_ARRAYS}
    rows = stored.c_codec if stored.c_codec is not None else unknown_values(len(notes))
    known: np.ndarray = np.isfinite(rows).all(axis=1) & rows.any(axis=1)
    if known.any() and not np.isfinite(notes["onset_beat"]).all():
        lost["performances whose perceptual features have no time, since beats are not known"] += 1
        known[:] = False
    onset = decode(notes, ids, stored.p_codec).notes["onset_sec"] if known.any() else np.zeros(len(notes))
    times, first = np.unique(onset[known], return_index=True)
    return dict(zip(FRAME_ARRAYS, (times, rows[known][first], unknown_values(len(times))), strict=True))


def _description(group: Listed, corpus: str, key: str, digest: str) -> dict[str, str]:
    """Work, composer, title and digest of the score: as we wrote them, or by the piece's name."""
    told = {name: _text(group.about, "piece", name) for name in ("work", "composer", "title", "score_digest")}
    if told["work"]:
        return told
    composer, _, name = key.replace("/", "_", 1).partition("_")
    composer, name = (composer, name) if name else ("", key)
    work = work_of(corpus, key, composer, name)
    return {"work": work, "composer": composer, "title": name.replace("_", " "), "score_digest": digest}


def _row(group: Listed, stored: Stored, heard: Mapping[str, np.ndarray]) -> Row:
    """The performance's row: as we wrote it, as far as the types are right, or what can be told of it."""
    about = group.about.get("performance")
    written = about if isinstance(about, dict) else {}
    tempo = float(60.0 / max(stored.p_codec[:, 0].mean(dtype=np.float64), 1e-9))
    row: Row = {
        "performer": "unknown",
        "synthetic": False,
        "performance_digest": "",
        "alignment_digest": "",
        "unknown_ids": 0,
        "tempo_outlier": tempo > MAX_TEMPO,
        "mean_tempo": tempo,
        "perceptual": "cep_csv" if len(heard["frame_time"]) else "none",
    }
    row |= {name: value for name, value in written.items() if type(value) is PERFORMANCES.get(name)}
    return row | {"key": _performance_key(group)}


def _performance_key(group: Listed) -> str:
    """What names a performance: its key as we wrote it, else its group."""
    key = _text(group.about, "performance", "key")
    return key if _is_key(key) else group.group


def _is_key(text: str) -> bool:
    """Whether a text is a relative path that leads nowhere but down, which later names files."""
    return text.isprintable() and not {"", ".", ".."} & set(text.split("/"))


def _text(about: Mapping[str, Any], part: str, name: str) -> str:
    inside = about.get(part)
    value = inside.get(name) if isinstance(inside, dict) else None
    return value if isinstance(value, str) else ""


def _quarantined(group: Listed, reason: str = "") -> Quarantined:
    """The row of a group that holds no performance: the failure that it tells of, or its own."""
    code = "hdf5_damaged" if reason or group.damaged else group.failure
    told = {
        "corpus": group.corpus,
        "piece": group.piece,
        "performance": group.group,
        "code": code if code in (*KNOWN_REASONS, "hdf5_damaged") else "codec_extraction_error",
        "reason": reason or group.failure,
        "remedy": "Build the data set from the corpus" if not group.damaged else "Export the file again",
        "digest": "",
        "traceback": "",
    }
    if not reason:
        told |= {name: value for name, value in group.about.items() if name in told and isinstance(value, str)}
    return Quarantined(**told)


def _shards(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    shard: list[Piece] = []
    for piece in pieces:
        shard.append(piece)
        if sum(each.matched.size for each in shard) >= SHARD_CELLS:
            yield shard
            shard = []
    if shard:
        yield shard


def _commit(build: Build, pieces: Sequence[Piece], quarantined: Sequence[Quarantined], made_by: Row) -> Tables:
    """Write a shard, unless it is there; its table rows."""
    results = [json_digest([made_by, piece.digest()]) for piece in pieces] or [json_digest(list(map(str, quarantined)))]
    shard = shard_name(results)
    if shard not in build.finished_shards():
        sources = [_source(piece, result, made_by) for piece, result in zip(pieces, results, strict=False)]
        build.commit(write_shard(build.url, shard, pieces, quarantined, sources), shard)
    return build.manifest(shard)


def _source(piece: Piece, result: str, made_by: Row) -> Row:
    described = {name: getattr(piece, name) for name in ("corpus", "key", "work", "composer", "title")}
    fingerprint = {"encoder": made_by, "piece": described, "score": piece.score_digest, "performances": {}}
    told = json.dumps(fingerprint, sort_keys=True)
    return {"corpus": piece.corpus, "key": piece.key, "result": result, "fingerprint": told}

"""The report's section on quality, of a data set built from made-up match files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dexter_model.corpora.layouts import folder
from dexter_model.corpora.sources import PieceSource
from dexter_model.dataset.build import building, gathered, shard_name, write_shard
from dexter_model.dataset.piece import encode_piece
from dexter_model.dataset.quality import BOUNDS
from dexter_model.dataset.store import DatasetVersion, open_version
from dexter_model.reading.sandbox import Sandbox
from dexter_model.report.quality import quality_section
from dexter_model.report.sections import data_section

NOTES = 40
HEAD = """info(matchFileVersion,1.0.0).
info(midiClockUnits,480).
info(midiClockRate,500000).
scoreprop(timeSignature,4/4,1:1,0,0.0000).
scoreprop(keySignature,C,1:1,0,0.0000).
"""


def match_file(path: Path, *, deleted: int = 0, velocity: int = 0) -> None:
    """A note a beat; the first ``deleted`` of five are not played, velocities vary unless one is given."""
    lines = []
    for n in range(NOTES):
        note = f"snote(n{n},[C,n],{n % 5 + 2},{n // 4 + 1}:{n % 4 + 1},0,1/4,{n:.4f},{n + 1:.4f},[v1,staff1])"
        played = f"note(n{n},{12 * (n % 5 + 3)},{480 * n},{480 * n + 400},{velocity or 60 + n % 20},0,0)"
        lines.append(f"{note}-{'deletion' if n % 5 < deleted else played}.")
    pedal = "sustain(0,0).\nsustain(480,127).\nsustain(960,0).\n"
    path.write_text(HEAD + "\n".join(lines) + "\n" + pedal)


def said_of(source: PieceSource, books: dict[str, str]) -> PieceSource:
    """The piece with what the books say of its recordings."""
    played = tuple(replace(each, recording=books.get(each.key, "")) for each in source.performances)
    return replace(source, performances=played)


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> DatasetVersion:
    corpus, url = tmp_path_factory.mktemp("corpus"), str(tmp_path_factory.mktemp("data") / "store")
    match_file(corpus / "sound.match")
    match_file(corpus / "gaps.match", deleted=2)
    match_file(corpus / "gaps_flat.match", velocity=64, deleted=2)
    match_file(corpus / "hopeless.match", deleted=3)
    match_file(corpus / "noisy.match")
    match_file(corpus / "torn.match")
    books = {"noisy.match": "background noise, applause", "torn.match": "corrupted", "sound.match": "high quality"}
    with Sandbox() as sandbox, building(url) as build:
        encoded = [encode_piece(said_of(source, books), sandbox, "none") for source in folder(corpus)]
        pieces = [piece for piece, _ in encoded if piece is not None]
        refused = [item for _, items in encoded for item in items]
        sources = [{"corpus": p.corpus, "key": p.key, "result": "", "fingerprint": "{}"} for p in pieces]
        shard = shard_name(piece.digest() for piece in pieces)
        build.commit(write_shard(url, shard, pieces, refused, sources), shard)
        build.publish(gathered([build.manifest(shard)]))
    return open_version(url)


@pytest.fixture(scope="module")
def section(version: DatasetVersion) -> dict[str, Any]:
    found = quality_section(version)
    assert found is not None
    return found


def test_flags_are_counted_the_worst_come_first_and_refusals_are_told(section: dict[str, Any]) -> None:
    assert section["summary"].startswith("3 of 4 performances carry a flag")
    assert section["summary"].endswith("in the quarantine: 2.")
    counts = {row["code"]: (row["flagged"], row["refused"]) for row in section["flags"]}
    assert counts == {bound.code: (0, 0) for bound in BOUNDS} | {
        "low_alignment_match_ratio": (2, 1),
        "constant_velocity": (1, 0),
        "recording_corrupted": (0, 1),
        "recording_background_noise": (1, 0),
        "recording_applause": (1, 0),
    }
    assert [row["performance"] for row in section["worst"]] == ["gaps_flat.match", "noisy.match", "gaps.match"]
    assert section["worst"][0]["flags"] == ["low_alignment_match_ratio", "constant_velocity"]
    assert section["worst"][0]["figures"] == ["60%", "40%", "0%", "0%", "0%"]
    assert section["unlisted"] == 0
    never = {row["code"]: row["hopeless"] for row in section["flags"] if row["code"].startswith("recording")}
    assert never == {
        "recording_corrupted": "always",
        "recording_background_noise": "never",
        "recording_applause": "never",
    }
    first = section["flags"][0]
    assert (first["doubtful"], first["hopeless"]) == ("below 80%", "below 50%")


def test_it_is_in_the_data_section_and_drawn_alike_each_time(version: DatasetVersion, section: dict[str, Any]) -> None:
    assert section["figure"].startswith("data:image/svg+xml;base64,")
    assert data_section(version)["quality"] == section


def test_versions_that_measured_nothing_have_no_such_section(version: DatasetVersion) -> None:
    before = version.performances
    version.performances = before.with_columns(flags=None)
    try:
        assert quality_section(version) is None
    finally:
        version.performances = before

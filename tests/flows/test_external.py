"""Other people's renderers: folders of MIDI files under a name, good and bad files in them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
from made_up_renders import made_up_piece, publish, write_renders
from typer.testing import CliRunner

from flows.cli import app

PIECES = [made_up_piece(key, seed=seed) for seed, key in enumerate("abc", start=1)]


def test_an_external_renderer_is_measured_like_ours_and_its_bad_files_are_told(tmp_path: Path) -> None:
    publish(str(tmp_path / "store"), PIECES)
    ours = write_renders(tmp_path / "ours", PIECES)
    theirs = tmp_path / "midi of theirs" / "MADE_UP"
    theirs.mkdir(parents=True)
    shutil.copy(ours / "a_0.mid", theirs / "a.mid")
    (theirs / "b.mid").write_bytes(b"MThd\x00\x00 this is no MIDI file")
    shutil.copy(write_renders(tmp_path / "other", [made_up_piece("x", seed=40)]) / "x_0.mid", theirs / "c.mid")
    shutil.copy(ours / "a_0.mid", theirs / "unknown piece.mid")
    (theirs / "notes.txt").write_text("not a render")
    words = [
        "--store",
        str(tmp_path / "store"),
        "--renders",
        str(ours),
        "--out",
        str(tmp_path / "out"),
        "--workers",
        "0",
    ]
    done = CliRunner().invoke(app, ["evaluate", *words, "--external", f"Basis Mixer={theirs.parent}"])
    assert done.exit_code == 4
    content = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert [(s["name"], s["renders"], s.get("midi_only")) for s in content["systems"]] == [
        ("ours", 3, None),
        ("Basis Mixer", 4, True),
    ]
    assert {(row["system"], row["name"]) for row in content["refused"]} == {
        ("Basis Mixer", f"MADE_UP/{name}") for name in ("b", "c", "unknown piece")
    }
    assert {row["code"] for row in content["refused"]} >= {"other_score", "no_piece"}
    assert str(tmp_path) not in json.dumps(content["systems"])
    measures = pl.read_parquet(tmp_path / "out" / "measures.parquet").filter(measure="correlation", piece="a")
    ours_says, theirs_say = (
        dict(measures.filter(system=s, human="a/p0.mid").select("feature", "value").iter_rows())
        for s in ("ours", "Basis Mixer")
    )
    assert abs(ours_says["velocity"] - theirs_say["velocity"]) < 0.02  # the same file, aligned anew
    assert "articulation_keydown" in theirs_say

"""Bad and hostile score files: one clear error each, whatever the bytes; nothing is fetched and nothing hangs."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from musicxml_samples import CONTAINER, attributes, direction, musicxml, note, scale, zipped

from dexter_model.errors import InputError
from dexter_model.reading.sandbox import Sandbox
from dexter_model.reading.score import load_score

LAUGHS = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 12))
BILLION_LAUGHS = f'<!DOCTYPE score-partwise [<!ENTITY l0 "ha">{LAUGHS}]>'
PUBLIC_DTD = (
    '<!DOCTYPE score-partwise PUBLIC "-//Recordare//DTD MusicXML 3.1 Partwise//EN" '
    '"http://www.musicxml.org/dtds/partwise.dtd">'
)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(timeout=60) as sandbox:
        yield sandbox


def refused(sandbox: Sandbox, path: Path) -> InputError:
    with pytest.raises(InputError) as caught:
        sandbox.call(load_score, path)
    error = caught.value
    assert error.path == str(path)
    assert "\n" not in str(error)
    return error


def midi(ticks_per_quarter: int, delta: int, notes: int = 1, *, first: bytes = b"") -> bytes:
    wait = bytearray([delta & 127])
    while delta := delta >> 7:
        wait.insert(0, delta & 127 | 128)
    track = first + (wait + b"\x90\x3c\x40" + wait + b"\x80\x3c\x40") * notes + b"\0\xff\x2f\0"
    return struct.pack(">4sIHHH4sI", b"MThd", 6, 0, 1, ticks_per_quarter, b"MTrk", len(track)) + track


def archive(**changes: str | bytes) -> Callable[[Path], Path]:
    members: dict[str, str | bytes] = {"META-INF/container.xml": CONTAINER, "score.xml": scale(), **changes}
    return lambda path: zipped(path, {name: content for name, content in members.items() if content})


UNSAFE: dict[str, str | bytes | Callable[[Path], Path]] = {
    "laughs.musicxml": musicxml([note("C", 4, 1)], prolog=BILLION_LAUGHS),
    "laughs.mei": f"{BILLION_LAUGHS}<mei>&l11;</mei>",
    "file.musicxml": musicxml([], prolog='<!DOCTYPE s [<!ENTITY x SYSTEM "file:///etc/hostname">]>'),
    "parameter.musicxml": musicxml([], prolog='<!DOCTYPE s [<!ENTITY % x SYSTEM "http://127.0.0.1/"> %x;]>'),
    "utf16.musicxml": musicxml([], prolog=BILLION_LAUGHS).replace("UTF-8", "UTF-16").encode("utf-16"),
    "large.mxl": archive(**{"score.xml": b" " * (65 << 20)}),
    "ratio.mxl": archive(**{"score.xml": b" " * (16 << 20)}),
    "members.mxl": archive(**{f"{number}": "x" for number in range(1001)}),
    "outside.mxl": archive(**{"../../outside.xml": "x"}),
    "absolute.mxl": archive(**{"/etc/outside.xml": "x"}),
    "laughs.mxl": archive(**{"score.xml": musicxml([], prolog=BILLION_LAUGHS)}),
    "container.mxl": archive(**{"META-INF/container.xml": f"{BILLION_LAUGHS}<container>&l11;</container>"}),
    "renamed.xml": archive(**{"score.xml": b" " * (16 << 20)}),
    "ticks.mid": midi(1, 0x0FFFFFFF, 50),
}
UNREADABLE: dict[str, str | bytes | Callable[[Path], Path]] = {
    "empty.musicxml": "",
    "text.musicxml": "no XML at all",
    "truncated.musicxml": scale()[:-300],
    "page.xml": "<html><body/></html>",
    "timewise.xml": "<score-timewise/>",
    "deep.musicxml": "<score-partwise><pitch/>" + "<a>" * 100_000 + "</a>" * 100_000 + "</score-partwise>",
    "deep.mei": "<mei>" + "<a>" * 100_000 + "</a>" * 100_000 + "</mei>",
    "endless.musicxml": musicxml([attributes(1) + note("C", 4, 10**25)]),
    "long.musicxml": musicxml([attributes(1) + note("C", 4, 2**31)]),
    "high.musicxml": musicxml([attributes(1) + note("C", 99, 1)]),
    "letter.pdf": "%PDF-1.4",
    "nothing": scale(),
    "no_container.mxl": archive(**{"META-INF/container.xml": ""}),
    "no_score.mxl": archive(**{"score.xml": ""}),
    "no_root.mxl": archive(**{"META-INF/container.xml": "<container/>"}),
    "damaged.mxl": b"PK\x03\x04" + bytes(range(256)) * 4,
    "broken.mei": "<mei><music></mei>",
    "broken.krn": "no\tspines\n",
    "binary.krn": bytes(range(256)) * 8,
    "binary.match": bytes(range(256)) * 8,
    "broken.match": "info(matchFileVersion,5.0).\nsnote(\n",
    "truncated.mid": midi(480, 480, 9)[:40],
    "seconds.mid": midi(0xE728, 10),
}
SILENT: dict[str, str | bytes] = {
    "no_parts.musicxml": "<score-partwise/>",
    "no_notes.musicxml": musicxml([attributes(1)]),
    "rest.musicxml": musicxml([attributes(1) + "<note><rest/><duration>4</duration><voice>1</voice></note>"]),
    "no_notes.mid": midi(480, 480, 0),
}


@pytest.mark.parametrize(
    ("code", "name", "content"),
    [("score_unsafe", *item) for item in UNSAFE.items()]
    + [("score_unreadable", *item) for item in UNREADABLE.items()]
    + [("score_empty", *item) for item in SILENT.items()],
    ids=lambda value: value if isinstance(value, str) and value in {**UNSAFE, **UNREADABLE, **SILENT} else "",
)
def test_a_bad_file_gives_one_clear_error(
    sandbox: Sandbox, tmp_path: Path, code: str, name: str, content: str | bytes | Callable[[Path], Path]
) -> None:
    path = tmp_path / name
    if callable(content):
        content(path)
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    assert refused(sandbox, path).code == code


def test_folders_and_missing_files(sandbox: Sandbox, tmp_path: Path) -> None:
    assert "folder" in refused(sandbox, tmp_path).reason
    assert "No such file" in refused(sandbox, tmp_path / "missing.musicxml").reason
    assert refused(sandbox, Path("/dev/zero")).code == "score_unreadable"


def test_a_time_signature_of_endless_bars_is_named(sandbox: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "metre.mid"
    path.write_bytes(midi(480, 480, first=b"\0\xff\x58\x04\x04\x29\x18\x08"))
    assert "time signature" in refused(sandbox, path).reason


def test_a_declared_size_that_lies_unpacks_nothing_more(sandbox: Sandbox, tmp_path: Path) -> None:
    path = archive(**{"score.xml": b" " * (48 << 20)})(tmp_path / "liar.mxl")
    data = bytearray(path.read_bytes())
    entry = data.rindex(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = struct.pack("<I", 1000)
    path.write_bytes(data)
    assert "damaged" in refused(sandbox, path).reason


def test_the_usual_doctype_and_archive_are_read(sandbox: Sandbox, tmp_path: Path) -> None:
    plain, packed = tmp_path / "score.xml", archive()(tmp_path / "score.mxl")
    plain.write_text(scale().replace("?>", f"?>{PUBLIC_DTD}"))
    assert len(sandbox.call(load_score, plain).notes) == len(sandbox.call(load_score, packed).notes) == 8


def test_a_dtd_is_not_fetched(sandbox: Sandbox, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/partwise.dtd"
        path = tmp_path / "score.musicxml"
        path.write_text(scale().replace("?>", f'?><!DOCTYPE score-partwise SYSTEM "{address}">'))
        assert len(sandbox.call(load_score, path).notes) == 8
        with pytest.raises(TimeoutError):
            server.accept()


SAMPLE = musicxml(
    [
        attributes(2, 3, 4) + direction("<dynamics><p/></dynamics>") + note("C", 4, 2) + note("D", 4, 0),
        '<barline><repeat direction="forward"/></barline>' + note("E", 4, 4, '<slur type="start" number="1"/>'),
        note("E", 4, 4, '<slur type="stop" number="1"/>') + '<barline><repeat direction="backward"/></barline>',
    ]
)
PIECES = re.split(r"(?<=>)|(?=<)", SAMPLE)
WORDS = st.sampled_from(
    ["", "0", "-1", "99999", "1e9", "nan", "x", "<chord/>", "<backup><duration>9</duration></backup>"]
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), unfold=st.booleans())
def test_any_mutation_is_a_score_or_one_error(
    sandbox: Sandbox, tmp_path: Path, data: st.DataObject, unfold: bool
) -> None:
    pieces = list(PIECES)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(pieces) - 1))
        other = data.draw(st.integers(0, len(pieces) - 1))
        change = data.draw(st.sampled_from(["drop", "double", "swap", "word"]))
        if change == "drop":
            pieces[at] = ""
        elif change == "double":
            pieces[at] *= 2
        elif change == "swap":
            pieces[at], pieces[other] = pieces[other], pieces[at]
        else:
            pieces[at] = data.draw(WORDS)
    path = tmp_path / "mutated.musicxml"
    path.write_text("".join(pieces))
    with contextlib.suppress(InputError):
        score = sandbox.call(load_score, path, unfold=unfold)
        assert len(score.notes) == len(set(score.note_id)) > 0
        assert (np.diff(score.notes["onset_div"]) >= 0).all()
        assert all(
            np.isfinite(score.notes[name]).all() for name in ("onset_beat", "duration_beat", "metrical_position")
        )

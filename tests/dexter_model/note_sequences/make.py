"""Makes the files of NoteSequences that tests read, with Magenta's own package, and what that package says of them.

Not part of the tests' environment; in one of its own: ``pip install note-seq tensorboard setuptools six`` and
``python make.py``. tensorboard brings TensorFlow's writer of records. Everything in it is made up.
"""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

from note_seq import sequences_lib
from note_seq.protobuf import music_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

HERE = Path(__file__).parent


def pedalled() -> music_pb2.NoteSequence:
    """Three instruments with pedals, drums, tempos, and fields that nobody asks for."""
    draw = random.Random(5)
    sequence = music_pb2.NoteSequence(id="/id/made/up/1", filename="pedalled.mid", ticks_per_quarter=480)
    sequence.tempos.add(time=0.0, qpm=90.0)
    sequence.tempos.add(time=2.5, qpm=132.5)
    sequence.text_annotations.add(time=1.0, text="C7", annotation_type=1)
    sequence.instrument_infos.add(
        instrument=200, name="a name that is longer than a hundred and twenty-seven letters" * 3
    )
    for instrument, program, is_drum in ((0, 0, False), (200, 24, False), (3, 0, True)):
        for _ in range(40):
            start = draw.randrange(0, 400) / 64
            sequence.notes.add(
                pitch=draw.randrange(58, 64),
                velocity=draw.randrange(1, 128),
                start_time=start,
                end_time=start + draw.randrange(1, 64) / 64,
                instrument=instrument,
                program=program,
                is_drum=is_drum,
                voice=draw.randrange(3),
            )
        for _ in range(12):
            sequence.control_changes.add(
                time=draw.randrange(0, 400) / 64,
                control_number=draw.choice([64, 64, 67]),
                control_value=draw.choice([0, 63, 64, 127]),
                instrument=instrument,
                program=program,
                is_drum=is_drum,
            )
        sequence.pitch_bends.add(time=1.5, bend=-300, instrument=instrument, program=program, is_drum=is_drum)
    sequence.total_time = max(note.end_time for note in sequence.notes)
    return sequence


def melody() -> music_pb2.NoteSequence:
    """Four notes without tempo or pedal; fields that are 0 are not written."""
    sequence = music_pb2.NoteSequence(id="/id/made/up/2", total_time=2.0)
    for index, pitch in enumerate((60, 62, 64, 65)):
        sequence.notes.add(pitch=pitch, velocity=80, start_time=index / 2, end_time=(index + 1) / 2)
    return sequence


def told(sequence: music_pb2.NoteSequence) -> dict[str, list[list[float]]]:
    """Notes as they are and as Magenta's pedal leaves them."""

    def rows(of: music_pb2.NoteSequence) -> list[list[float]]:
        return [
            [n.start_time, n.end_time, n.pitch, n.velocity, n.instrument, n.program, int(n.is_drum)] for n in of.notes
        ]

    sustained = sequences_lib.apply_sustain_control_changes(sequence)
    return {"played": rows(sequence), "sustained": rows(sustained)}


def main() -> None:
    """Write the files beside this one."""
    sequences = [pedalled(), melody(), music_pb2.NoteSequence(id="/id/made/up/3")]
    records = HERE / "sequences.tfrecord"
    with records.open("wb") as file:
        writer = RecordWriter(file)
        for sequence in sequences:
            writer.write(sequence.SerializeToString(deterministic=True))
    with (HERE / "sequences.tfrecord.gz").open("wb") as file:
        file.write(gzip.compress(records.read_bytes(), mtime=0))
    expected = "[\n" + ",\n".join(json.dumps(told(sequence)) for sequence in sequences) + "\n]\n"
    (HERE / "sequences.json").write_text(expected)


if __name__ == "__main__":
    main()

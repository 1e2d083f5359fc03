"""The KTH performance rules, each a pure function from a score's notes to deviations from what is written.

A rule takes the notes, sorted by onset and pitch, and its quantity k: 0 does nothing, 1 is the rule's normal strength,
negative inverts it. It returns deviations (n, 3), to be added up over rules: TEMPO, log2 of the beat period's factor
(the same for all notes of an onset); LEVEL, dB; LENGTH, log2 of the duration's factor. All but the final ritard are
linear in k.

The rules are those of Friberg, Bresin & Sundberg (2006), "Overview of the KTH rule system for musical performance",
Advances in Cognitive Psychology 2(2-3), and the papers each function names. Their shapes are the papers'; where a rule
needs an analysis that scores do not hold (phrases, melodic units) a simple one is described with it.
"""

from __future__ import annotations

import numpy as np

from dexter_model.codec import tempo
from dexter_model.notes import ARTICULATIONS

TEMPO, LEVEL, LENGTH = range(3)
_STACCATO, _STACCATISSIMO, _TENUTO, _ACCENT, _STRONG_ACCENT, _FERMATA, _SLUR = (
    1 << ARTICULATIONS.index(name)
    for name in ("staccato", "staccatissimo", "tenuto", "accent", "strong-accent", "fermata", "slur")
)


def phrase_arch(notes: np.ndarray, k: float) -> np.ndarray:
    """Faster and louder into the middle of a phrase, slower and softer out of it: parabolas over nested phrases.

    Friberg (1995), "Matching the rule parameters of phrase arch to performances of 'Träumerei'", STL-QPSR 36. Phrases
    are 4 and 8 bars long, counted from the first onset (so an upbeat belongs to what follows it) and anew after every
    fermata and general rest.
    """
    moved = _nothing(notes)
    group, _ = onset_groups(notes)
    for bars, slowing, softening in ((4, 0.18, 3.0), (8, 0.12, 2.0)):
        position = phrase_position(notes, bars)[group]
        arch = (2 * position - 1) ** 2 - 1 / 3  # its mean is 0: the tempo stays what it was
        moved[:, TEMPO] += k * slowing * arch
        moved[:, LEVEL] -= k * softening * arch
    return moved


def duration_contrast(notes: np.ndarray, k: float, beat_period: float) -> np.ndarray:
    """Short notes shorter and softer, most of all those of about 0.2 s; none above 0.6 s changes.

    Friberg (1991), "Generative rules for music performance", Computer Music Journal 15(2). ``beat_period`` (s) tells
    how long a note is; short is what soon is followed by another onset.
    """
    moved = _nothing(notes)
    group, first = onset_groups(notes)
    seconds = _intervals(notes, first) * beat_period
    shorter = np.interp(seconds, [0.03, 0.2, 0.4, 0.6], [0, 0.0165, 0.0105, 0])
    moved[:, TEMPO] = -k * (shorter / seconds / np.log(2))[group]
    moved[:, LEVEL] = -k * (60 * shorter)[group]  # 1 dB at most
    return moved


def high_loud(notes: np.ndarray, k: float) -> np.ndarray:
    """The higher the louder: 3 dB an octave around middle C.

    Friberg (1991), as above; Sundberg, Friberg & Frydén (1991), Music Perception 9(1).
    """
    moved = _nothing(notes)
    moved[:, LEVEL] = k * (notes["pitch"] - 60) / 4
    return moved


def punctuation(notes: np.ndarray, k: float, beat_period: float) -> np.ndarray:
    """The last note of a melodic unit is a little longer and a micropause follows it.

    Friberg, Bresin, Frydén & Sundberg (1998), "Musical punctuation on the microlevel", Journal of New Music Research
    27(3). A unit of the upper voice ends before a rest, with a slur, and on a note over twice as long as both others
    beside it.
    """
    moved = _nothing(notes)
    group, first = onset_groups(notes)
    top = np.append(first[1:], len(notes)) - 1  # the highest note of each onset
    interval = _intervals(notes, first)
    slurred = (notes["articulation"][top] & _SLUR) > 0
    rest = interval - notes["duration_beat"][top] > 0.2
    longest = (interval > 2.1 * np.roll(interval, 1)) & (interval > 2.1 * np.roll(interval, -1))
    last = rest | (slurred & ~np.append(slurred[1:], False)) | longest
    seconds = np.maximum(interval * beat_period, 0.1)
    moved[:, TEMPO] = k * np.where(last, 0.02 / seconds / np.log(2), 0)[group]
    moved[top, LENGTH] = -k * np.where(last, np.minimum(0.08 / seconds / np.log(2), 0.5), 0)
    return moved


def final_ritard(notes: np.ndarray, k: float) -> np.ndarray:
    """The tempo falls over the last two bars as the speed of a stopping runner, to 1/2^k on the last onset.

    Friberg & Sundberg (1999), "Does music performance allude to locomotion?", Journal of the Acoustical Society of
    America 105(3): v(x) = (1 + (v_end^q - 1) x)^(1/q), here with q = 3. In short scores it takes a sixth of the score.
    """
    moved = _nothing(notes)
    onset = notes["onset_beat"].astype(float)
    extent = min(2.0 * notes["beats"][-1], (onset[-1] - onset[0]) / 6)
    if extent > 0:
        x = np.clip((onset - onset[-1]) / extent + 1, 0, 1)
        moved[:, TEMPO] = -np.log2(1 + (2.0 ** (-3 * k) - 1) * x) / 3
    return moved


def notation(notes: np.ndarray, k: float) -> np.ndarray:
    """What the score says: dynamics, hairpins, accents, fermatas; staccato short, slurred notes overlapping.

    Articulation after Bresin & Battel (2000), "Articulation strategies in expressive piano performance", Journal of New
    Music Research 29(3): staccato sounds about half of its value, and what is neither slurred nor held a little less.
    """
    moved = _nothing(notes)
    flags = notes["articulation"]
    moved[:, LEVEL] = np.where(notes["dynamic"] > 0, 2.5 * (notes["dynamic"] - 4.5), 0) + 4 * _hairpins(notes)
    moved[:, LEVEL] += 3.0 * ((flags & _ACCENT) > 0) + 4.5 * ((flags & _STRONG_ACCENT) > 0)
    moved[:, LENGTH] = np.select(
        [(flags & _STACCATISSIMO) > 0, (flags & _STACCATO) > 0, (flags & _TENUTO) > 0, (flags & _SLUR) > 0],
        [-1.4, -1.0, 0.0, 0.1],
        -0.2,
    )
    group, first = onset_groups(notes)
    moved[:, TEMPO] = 0.25 * np.maximum.reduceat((flags & _FERMATA) > 0, first)[group]
    return k * moved


def melody_lead(notes: np.ndarray, k: float) -> np.ndarray:
    """How much earlier (s) each note is played than its chord: the highest leads by some 20 ms, grace notes by 60.

    Goebl (2001), "Melody lead in piano performance: expressive device or artifact?", Journal of the Acoustical Society
    of America 110(1). The mean of every chord is 0.
    """
    group, first = onset_groups(notes)
    early = np.where(notes["grace"], 0.06, 0.0)
    main = np.flatnonzero(~notes["grace"])
    last_of_group = np.flatnonzero(np.diff(group[main], append=-1))
    early[main[last_of_group]] += 0.02
    count = np.diff(np.append(first, len(notes)))
    return k * (early - (np.add.reduceat(early, first) / count)[group])


def onset_groups(notes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Group (n,) of each note and first note (g,) of each group: notes of one score onset; notes are sorted."""
    group = tempo.onset_groups(notes["onset_beat"])
    return group, tempo.group_starts(group)


def phrase_position(notes: np.ndarray, bars: int) -> np.ndarray:
    """Where in its phrase each onset group lies (g,), in [0, 1]; see ``phrase_arch``."""
    _, first = onset_groups(notes)
    onset = notes["onset_beat"][first].astype(float)
    interval = _intervals(notes, first)
    sounding_until = np.maximum.accumulate(np.maximum.reduceat(notes["onset_beat"] + notes["duration_beat"], first))
    silent = np.append(False, onset[1:] - sounding_until[:-1] > 0.9)
    held = np.maximum.reduceat((notes["articulation"] & _FERMATA) > 0, first)
    start = silent | np.append(True, held[:-1])
    section = np.cumsum(start) - 1
    begins = onset[start][section]
    ends = np.append(onset[start][1:], onset[-1] + interval[-1])[section]
    length = bars * np.maximum(notes["beats"][first][start][section], 1.0)
    count = np.maximum(np.round((ends - begins) / length), 1)  # phrases of equal length fill the section
    phrases = (onset + interval / 2 - begins) / (ends - begins) * count
    return np.asarray(phrases - np.floor(phrases))


def _intervals(notes: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Beats from each onset group to the next, of the last one to its end; positive."""
    onset = notes["onset_beat"][first].astype(float)
    end = float((notes["onset_beat"] + notes["duration_beat"]).max())
    return np.maximum(np.diff(onset, append=max(end, onset[-1] + 0.25)), tempo.ONSET_TOLERANCE)


def _hairpins(notes: np.ndarray) -> np.ndarray:
    """How far a crescendo has come (0 to 1) or a diminuendo (0 to -1), for each note."""
    turn = np.flatnonzero(np.diff(notes["ramp"], prepend=notes["ramp"][0]))
    run = np.searchsorted(turn, np.arange(len(notes)), side="right")
    onset = notes["onset_beat"].astype(float)
    begin = onset[np.append(0, turn)][run]
    end = onset[np.append(turn, len(notes)) - 1][run]
    return np.asarray(notes["ramp"] * (onset - begin) / np.maximum(end - begin, 1.0))


def _nothing(notes: np.ndarray) -> np.ndarray:
    return np.zeros((len(notes), 3))

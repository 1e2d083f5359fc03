"""What the words of a score ask for: loudness, accents, ramps of loudness and tempo, tempi.

Tempi of words are those that music21 plays (``music21.tempo.defaultTempoValues``), with the German and French words
that its table lacks set beside their Italian equals. They are counted in the beats one feels, which composers mean:
dotted ones in 6/8. Words that are not known say nothing.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from dexter_model.notes import DYNAMICS

_GLYPHS = str.maketrans({"\ue520": "p", "\ue521": "m", "\ue522": "f", "\ue523": "r", "\ue524": "s", "\ue525": "z"})
_GLYPH_NAMES = re.compile(r"<sym>dynamic(p|m|f|r|s|z)\w*</sym>", re.IGNORECASE)
_WORD = re.compile(r"[^\W\d_]+")

_LEVEL = {name: level for level, name in enumerate(DYNAMICS) if level}
_LEVEL |= {"pianissimo": 2, "piano": 3, "forte": 6, "fortissimo": 7}
_ACCENT = re.compile(r"[sr]?f+z?|s?f+z?(p+)|pf(z?)|rinf\w*|sforz\w*|forzato|rinforz\w*")
_NOT_ALONE = {"f", "ff", "fff", "ffff", "fffff", "ffffff"}  # _ACCENT's pattern takes them too
_BEFORE_LEVEL = {
    "sempre",
    "subito",
    "ma",
    "e",
    "ed",
    "poco",
    "molto",
    "più",
    "piu",
    "meno",
    "mezzo",
    "un",
    "a",
    "quasi",
}

_LOUDER = re.compile(r"cresc\w*|anschwellend|augmentez")
_SOFTER = re.compile(r"dim|dimin\w*|decr\w*|calando|smorz\w*|morendo|perdendo\w*|mancando|abnehmend|diminuez")
_FASTER = re.compile(r"accel\w*|string\w*|stretto|affrett\w*|beschleunig\w*|drängend\w*|pressez|animez|serrez")
_SLOWER = re.compile(
    r"rit|ritar\w*|riten\w*|rall\w*|slent\w*|allarg\w*|calando|smorz\w*|morendo|perdendo\w*|mancando|"
    r"zurückhalt\w*|verlangsam\w*|nachlassend|retenu|retenez|cédez|ralentir|élargi\w*"
)
_MORE, _LESS = {"più", "piu", "plus", "noch"}, {"meno", "moins", "weniger"}
_COMPARATIVE = re.compile(r"(schnell|beweg|lebhaft|geschwind|rasch|langsam|ruhig|breit|gehalten)t?er")
_FASTER_STEP = re.compile(r"mosso|moto|vite|(schnell|beweg|lebhaft|geschwind|rasch)t?er")
_SLOWER_STEP = re.compile(r"tranquillo|lent|(langsam|ruhig|breit|gehalten)er")

# Beats a minute, music21's.
_TEMPO = {
    "larghissimo": 16, "grave": 40, "largo": 46, "lento": 52, "adagio": 56, "larghetto": 60, "adagietto": 66,
    "andante": 72, "andantino": 80, "maestoso": 88, "moderato": 92, "allegretto": 108, "animato": 120,
    "allegro": 132, "allegrissimo": 140, "vivace": 160, "vivo": 160, "vivacissimo": 168, "vivacissimamente": 168,
    "presto": 184, "prestissimo": 208,
    # German and French, as their Italian equals
    "langsam": 56, "getragen": 56, "gehend": 72, "gehender": 72, "ruhig": 72, "mäßig": 92, "mässig": 92, "bewegt": 120,
    "lebhaft": 132, "lebhaftesten": 160, "schnell": 132, "geschwind": 132, "rasch": 132, "aufgeregt": 144,
    "lent": 52, "modéré": 92, "animé": 120, "vif": 160, "vite": 144,
}  # fmt: skip
_STRONGLY = {"molto", "assai", "sehr", "très", "brio", "fuoco", "vivace"}  # molto allegro: 144, says music21
_MILDLY = {"moderato", "troppo", "tanto", "nicht", "maestoso", "quasi"}  # allegro moderato: 128
_FIRST = {"i", "primo", "erstes"}
STEP = 1.2  # of a tempo "più mosso" or "meno mosso", beside that in force


class Meaning(NamedTuple):
    """What a text asks for; a field keeps its default where the text says nothing of it.

    ``level``: index into ``DYNAMICS``; ``step``: levels up or down from that in force; ``loudness_ramp`` and
    ``tempo_ramp``: +1 or -1; ``beats``: felt beats a minute; ``factor``: of the tempo in force; ``reset``: "a tempo" or
    "first" (tempo primo).
    """

    level: int = 0
    step: int = 0
    accent: bool = False
    loudness_ramp: int = 0
    tempo_ramp: int = 0
    beats: float = 0
    factor: float = 1
    reset: str = ""


def meaning(text: str) -> Meaning:
    """What the text of a direction asks for; texts of more than 200 characters say nothing."""
    if len(text) > 200:
        return Meaning()
    words = _WORD.findall(_GLYPH_NAMES.sub(r"\1", text).translate(_GLYPHS).lower())
    level, step, accent = _loudness(words)
    beats, factor, reset = _tempo(words)
    return Meaning(
        level, step, accent, _ramp(words, _LOUDER, _SOFTER), _ramp(words, _FASTER, _SLOWER), beats, factor, reset
    )


def _loudness(words: list[str]) -> tuple[int, int, bool]:
    level, step, accent = 0, 0, False
    for place, word in enumerate(words):
        before = words[place - 1] if place else ""
        if (matched := _ACCENT.fullmatch(word)) and word not in _NOT_ALONE:
            accent = True
            level = _level(matched[1] or "") or (_LEVEL["f"] if word == "pf" else level)
        elif (found := _level(word)) and all(earlier in _BEFORE_LEVEL for earlier in words[:place]):
            sign = 1 if "f" in word else -1
            if before in ("più", "piu"):
                step = sign
            elif before == "meno":
                step = -sign
            else:
                level = {"piano": 4, "forte": 5}.get(word, found) if before == "mezzo" else found
    return level, step, accent


def _level(word: str) -> int:
    return _LEVEL.get(word[:3] if len(word) > 3 and set(word) in ({"p"}, {"f"}) else word, 0)


def _ramp(words: list[str], up: re.Pattern[str], down: re.Pattern[str]) -> int:
    return int(any(map(up.fullmatch, words))) or -int(any(map(down.fullmatch, words)))


def _tempo(words: list[str]) -> tuple[float, float, str]:
    if "attacca" in words:
        return 0, 1, ""  # names what follows later
    if "tempo" in words and (_FIRST & {*words} or words == ["tempo"] or {*words} & {"a", "in", "im"}):
        return 0, 1, "first" if _FIRST & {*words} else "a tempo"
    if {"doppio", "movimento"} <= {*words}:
        return 0, 2, ""
    name = next((word for word in words if word in _TEMPO), "")
    named, others = _TEMPO.get(name, 0), {*words} - {name}
    less, compared = bool(_LESS & {*words}), bool((_MORE | _LESS) & {*words}) or any(map(_COMPARATIVE.fullmatch, words))
    fast = named > 90 or any(map(_FASTER_STEP.fullmatch, words))
    if compared and (fast or named or any(map(_SLOWER_STEP.fullmatch, words))):
        return 0, STEP if fast != less else 1 / STEP, ""
    if not named:
        return 0, 1, ""
    scale = 1 + 0.09 * (bool(_STRONGLY & others) - bool(_MILDLY & others) / 3)
    return named * (scale if named > 90 else 2 - scale), 1, ""

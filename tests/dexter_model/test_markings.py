"""What a score says to performers: words, hairpins, tempi, ramps, keys and signs, at every note they hold for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from musicxml_samples import attributes, direction, musicxml, note

from dexter_model.notes import ARTICULATIONS, DYNAMICS, SCORE_NOTE
from dexter_model.reading.directions import FASTEST, SLOWEST, take_directions
from dexter_model.reading.markings import add_loudness, add_tempo
from dexter_model.reading.score import load_score
from dexter_model.reading.words import STEP, meaning

SAID = (
    "p",
    "cresc.",
    "più f",
    "Allegro",
    "rit.",
    "a tempo",
    "dim.",
    "sf",
    "Tempo I",
    "più mosso",
    "un poco meno allegro",
)


def read(folder: Path, *measures: str) -> np.ndarray:
    path = folder / "score.musicxml"
    path.write_text(musicxml(list(measures)))
    return load_score(path).notes


def words(text: str) -> str:
    return direction(f"<words>{text}</words>")


def quarters(count: int = 4, before: str = "") -> str:
    return before + note("C", 5, 1) * count


def on_staff(staff: int, content: str) -> str:
    return direction(content).replace("</direction>", f"<staff>{staff}</staff></direction>")


def flagged(notes: np.ndarray, name: str) -> list[int]:
    return np.flatnonzero(notes["articulation"] >> ARTICULATIONS.index(name) & 1).tolist()


@pytest.mark.parametrize(
    ("text", "level"),
    [("p", "p"), ("pppp", "ppp"), ("sempre pp", "pp"), ("mezzo piano", "mp"), ("f con fuoco", "f"), ("sfp", "p"),
     ("\ue520\ue520", "pp"), ("sempre <sym>dynamicPiano</sym>", "p"), ("pf", "f"), ("(mf)", "mf"),
     ("Sonate in F", "none"), ("R. Schumann op.16 (f)", "none"), ("sf", "none"), ("m.d.", "none"), ("", "none")],
)  # fmt: skip
def test_levels_of_words(text: str, level: str) -> None:
    assert DYNAMICS[meaning(text).level] == level


@pytest.mark.parametrize(
    "text", ["sf", "sfz", "fz", "rf", "rfz", "fp", "sfpp", "rinf.", "rinforz. molto", "[sf]", "ffz"]
)
def test_accents(text: str) -> None:
    assert meaning(text).accent


def test_what_is_no_accent() -> None:
    assert not any(meaning(text).accent for text in ("f", "ff", "p", "pp", "mf", "forte", "fine", "sfogato"))


def test_ramps_of_words() -> None:
    rising, falling = ("cresc.", "poco a poco  cresc.  - - -", "Crescendo"), ("dim.", "decresc.", "smorz.", "calando")
    assert {meaning(text).loudness_ramp for text in rising} == {1}
    assert {meaning(text).loudness_ramp for text in falling} == {-1}
    slower = ("rit.", "ritar - - dan - do", "poco riten.", "rall.", "smorzando", "zurückhaltend", "Cédez")
    assert {meaning(text).tempo_ramp for text in slower} == {-1}
    assert {meaning(text).tempo_ramp for text in ("accel.", "string.", "cresc. e stretto", "affrettando")} == {1}
    assert {meaning(text).tempo_ramp for text in ("ritmico", "ten.", "cresc.", "dolce")} == {0}


def test_tempi_of_words_keep_the_order_of_the_metronome() -> None:
    tempi = [meaning(text).beats for text in ("Largo", "Adagio", "Andante", "Moderato", "Allegro", "Presto")]
    assert tempi == [46, 56, 72, 92, 132, 184]
    assert meaning("Allegro moderato").beats < meaning("Allegro").beats < meaning("Allegro molto").beats
    assert meaning("Adagio molto").beats < meaning("Adagio").beats
    assert [meaning(text).beats for text in ("Sehr langsam", "lebhaft", "Lent")] == pytest.approx([56 * 0.91, 132, 52])


def test_tempi_beside_the_one_in_force() -> None:
    faster = ("più mosso", "poco più mosso", "più allegro", "noch schneller", "Etwas bewegter", "meno adagio")
    assert {meaning(text).factor for text in faster} == {STEP}
    slower = ("meno mosso", "più lento", "etwas langsamer", "meno allegro")
    assert {meaning(text).factor for text in slower} == {1 / STEP}
    assert meaning("doppio movimento").factor == 2
    resets = {text: meaning(text).reset for text in ("a tempo", "Tempo I", "tempo primo", "Erstes Tempo", "im Tempo")}
    assert list(resets.values()) == ["a tempo", "first", "first", "first", "a tempo"]
    assert meaning("attacca subito l'Allegro").beats == 0
    assert meaning("tempo di menuetto").reset == ""


def test_words_inside_dynamics_are_read(tmp_path: Path) -> None:
    cresc = direction("<dynamics><other-dynamics>cresc.</other-dynamics></dynamics>")
    notes = read(
        tmp_path, attributes(1) + quarters(before=cresc), quarters(before=direction("<dynamics><f/></dynamics>"))
    )
    assert notes["ramp"].tolist() == [1] * 4 + [0] * 4


def test_an_accent_ends_no_crescendo_and_softer_follows_louder(tmp_path: Path) -> None:
    accent = direction("<dynamics><sf/></dynamics>")
    notes = read(tmp_path, attributes(1) + quarters(1, words("p")) + quarters(1, words("cresc.")) + quarters(2, accent),
                 quarters(2, words("più f")) + quarters(2, words("dim.")))  # fmt: skip
    assert notes["ramp"].tolist() == [0, 1, 1, 1, 0, 0, -1, -1]
    assert [DYNAMICS[level] for level in notes["dynamic"]] == ["p"] * 4 + ["mp"] * 4
    assert flagged(notes, "sforzando") == [2]


def test_a_ramp_of_words_lasts_eight_bars_and_no_more(tmp_path: Path) -> None:
    notes = read(tmp_path, attributes(1) + quarters(4, words("cresc.")), *[quarters()] * 10)
    assert notes["ramp"].tolist() == [1] * 36 + [0] * 8


def test_hairpins_pair_by_number_and_an_offset_moves_a_direction(tmp_path: Path) -> None:
    first, second = ('<wedge type="crescendo" number="1"/>', '<wedge type="diminuendo" number="2"/>')
    stops = direction('<wedge type="stop" number="1"/>'), direction('<wedge type="stop" number="2"/>')
    late = direction(second).replace("</direction>", "<offset>1</offset></direction>")
    notes = read(tmp_path, attributes(1) + direction(first) + quarters(2) + stops[0] + late + quarters(2),
                 quarters(1) + stops[1] + quarters(3))  # fmt: skip
    assert notes["ramp"].tolist() == [1, 1, 0, -1, -1, 0, 0, 0]


def test_a_marking_means_both_staves_unless_both_are_marked(tmp_path: Path) -> None:
    def staves(before_upper: str, before_lower: str) -> str:
        upper = note("C", 5, 4).replace("</voice>", "</voice><staff>1</staff>")
        lower = note("C", 3, 4).replace("<voice>1</voice>", "<voice>5</voice><staff>2</staff>")
        return before_upper + upper + "<backup><duration>4</duration></backup>" + before_lower + lower

    piano, forte = "<dynamics><p/></dynamics>", "<dynamics><f/></dynamics>"
    notes = read(tmp_path, attributes(1) + staves(on_staff(1, piano), ""), staves("", on_staff(2, forte)),
                 staves(on_staff(1, piano), on_staff(2, forte)))  # fmt: skip
    lower, upper = notes["dynamic"][::2], notes["dynamic"][1::2]
    assert [DYNAMICS[level] for level in lower] == ["p", "f", "f"]
    assert [DYNAMICS[level] for level in upper] == ["p", "f", "p"]


def test_tempo_is_in_beats_of_the_metre_and_printed_marks_go_first(tmp_path: Path) -> None:
    mark = "<metronome><beat-unit>quarter</beat-unit><beat-unit-dot/><per-minute>60</per-minute></metronome>"
    played = direction("<words>Allegro</words>").replace("</direction>", '<sound tempo="90"/></direction>')
    both = direction(mark).replace("</direction>", '<sound tempo="300"/></direction>')
    notes = read(tmp_path, attributes(2, 6, 8) + quarters(6, played), quarters(6, both), quarters(6, words("Andante")))
    assert notes["tempo"].tolist() == [180] * 12 + [216] * 6  # 90 quarters; 60 dotted ones; 72 dotted ones
    assert notes["tempo"].dtype == np.float32


def test_a_tempo_returns_to_the_named_tempo_and_tempo_primo_to_the_first(tmp_path: Path) -> None:
    said = ("Allegro", "più mosso", "a tempo", "Adagio", "rit.", "a tempo", "Tempo I")
    notes = read(tmp_path, *[(attributes(1) if not bar else "") + quarters(1, words(text)) + note("D", 5, 3)
                             for bar, text in enumerate(said)])  # fmt: skip
    expected = [132, 132 * STEP, 132, 56, 56, 56, 132]
    np.testing.assert_allclose(notes["tempo"][::2], expected, rtol=1e-6)
    assert notes["tempo_ramp"][::2].tolist() == [0, 0, 0, 0, -1, 0, 0]


def test_a_ritardando_lasts_four_bars_when_nothing_ends_it(tmp_path: Path) -> None:
    notes = read(tmp_path, attributes(1) + quarters(4, words("ritard.")), *[quarters()] * 6)
    assert notes["tempo_ramp"].tolist() == [-1] * 20 + [0] * 8
    assert not notes["tempo"].any()


@pytest.mark.parametrize("tempo", ["nan", "inf", "-60", "0", "1e300", "fast", ""])
def test_impossible_tempi_are_no_tempi(tmp_path: Path, tempo: str) -> None:
    assert not read(tmp_path, attributes(1) + f'<sound tempo="{tempo}"/>' + quarters())["tempo"].any()


@pytest.mark.parametrize(("text", "bound"), [("doppio movimento", FASTEST), ("meno mosso", SLOWEST)])
def test_words_said_again_and_again_leave_a_tempo_that_music_has(text: str, bound: float, tmp_path: Path) -> None:
    bars = [attributes(1) + quarters(4, words("Allegro")), *[quarters(4, words(text)) for _ in range(200)]]
    assert read(tmp_path, *bars)["tempo"][-1] == bound


def test_keys_signs_and_pedal(tmp_path: Path) -> None:
    key = attributes(1).replace("<time>", "<key><fifths>-3</fifths><mode>minor</mode></key><time>")
    down, up = (direction(f'<pedal type="{kind}"/>') for kind in ("start", "stop"))
    slurs = [f'<slur type="{kind}" number="1"/>' for kind in ("start", "stop")]
    notes = read(tmp_path, key + note("C", 4, 1, "<arpeggiate/>") + down + note("D", 4, 1, slurs[0])
                 + note("E", 4, 1) + up + note("F", 4, 1, slurs[1] + "<ornaments><trill-mark/></ornaments>"),
                 note("C", 4, 2, "<ornaments><inverted-mordent/></ornaments>")
                 + note("C", 4, 2, "<ornaments><tremolo>3</tremolo></ornaments>"))  # fmt: skip
    assert set(notes["key"].tolist()) == {-3}
    assert set(notes["mode"].tolist()) == {-1}
    expected = {"arpeggio": [0], "pedal": [1, 2], "slur": [1, 2, 3], "slur-start": [1], "slur-stop": [3], "trill": [3]}
    expected |= {"ornament": [4], "tremolo": [5]}
    assert {name: flagged(notes, name) for name in expected} == expected


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(SAID), st.integers(1, 3), st.integers(-2, 9)), max_size=12))
def test_any_directions_give_sound_columns(said: list[tuple[str, int, int]]) -> None:
    bars = "".join(
        words(text).replace("</direction>", f"<offset>{late}</offset><staff>{staff}</staff></direction>")
        + note("C", 5, 1)
        for text, staff, late in said
    )
    _, markings = take_directions(musicxml([attributes(1) + bars + quarters()]).encode())
    notes = np.zeros(len(said) + 4, SCORE_NOTE)
    notes["staff"], notes["beats"], notes["beat_type"] = 1, 4, 4
    onset = np.arange(len(notes))
    add_loudness(notes, onset, markings["P0"])
    add_tempo(notes, onset, markings["P0"])
    assert set(notes["ramp"].tolist()) | set(notes["tempo_ramp"].tolist()) <= {-1, 0, 1}
    assert notes["dynamic"].min() >= 0
    assert notes["dynamic"].max() < len(DYNAMICS)
    assert np.isfinite(notes["tempo"]).all()


@pytest.mark.parametrize(
    "content",
    [
        "<direction><direction-type/><offset>x</offset><staff>-1</staff></direction>",
        '<direction><direction-type><wedge type="stop" number="ten"/></direction-type></direction>',
        "<direction><direction-type><metronome><beat-unit>moon</beat-unit></metronome></direction-type></direction>",
        words("cresc. " * 10_000),
        "<direction><direction-type><dynamics><!-- p --><other-dynamics/></dynamics></direction-type></direction>",
    ],
)
def test_broken_directions_say_nothing(tmp_path: Path, content: str) -> None:
    notes = read(tmp_path, attributes(1) + quarters(before=content))
    assert not notes["dynamic"].any()
    assert not notes["ramp"].any()


def test_a_direction_beyond_all_time_is_never_reached(tmp_path: Path) -> None:
    late = words("p").replace("</direction>", f"<offset>{10**25}</offset></direction>")
    assert not read(tmp_path, attributes(1) + quarters(before=late))["dynamic"].any()


@pytest.mark.corpora
def test_a_sonata_of_asap_says_all_of_it(corpora_root: Path) -> None:
    folder = corpora_root / "asap-dataset" / "Beethoven" / "Piano_Sonatas" / "31-1"
    notes = load_score(folder / "xml_score.musicxml").notes
    assert (notes["dynamic"] > 0).all()
    assert (notes["ramp"] > 0).sum() > 500  # most are words inside <other-dynamics>
    assert len(flagged(notes, "sforzando")) > 20
    assert set(notes["key"].tolist()) == {-4, 4}
    assert set(notes["tempo"].tolist()) == {54, 58}

"""What can be said about how performances are generated; checked before any work is done. Needs no torch."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from dexter_model.performance_rnn.config import NetworkConfig
from dexter_model.training.config import one_of, require, setting

_MOST = 1e6  # of what steers
DEFAULT_DENSITY, DEFAULT_HISTOGRAM = 15.0, (1.0,) * 12  # what steers where nothing is said
LONGEST_NOTE = 500  # steps: what never ends, ends then
MOST_ROWS = 4096  # of a network's state: candidates of all performances that are made together


@dataclass(frozen=True)
class GenerationSettings:
    """How performances are made; those of the original, by their names, and some more.

    What steers is spread over the whole performance: of k values each holds for a k-th of it.
    """

    num_steps: int = setting(3000, "length in steps of 10 ms, primer included")
    primer_pitches: tuple[int, ...] = setting((), "a chord of half a second to begin with")
    primer_melody: tuple[int, ...] = setting((), "or a melody, 8 events a second: pitches, -1 note off, -2 goes on")
    primer_midi: str = setting("", "or a MIDI file")
    temperature: float = setting(1.0, "below 1 likelier, above 1 less likely events")
    top_p: float = setting(1.0, "only the likeliest events that together have this probability")
    constrained: bool = setting(False, "no key goes down that is down, or up that is up")
    beam_size: int = setting(1, "performances that are kept of those begun")
    branch_factor: int = setting(1, "continuations that are begun of each")
    steps_per_iteration: int = setting(1, "events between choosing among them")
    notes_per_second: tuple[float, ...] = setting((), "density over time")
    pitch_class_histogram: tuple[tuple[float, ...], ...] = setting((), "weights of C, C sharp, ... over time")
    disable_conditioning: tuple[bool, ...] = setting((), "over time, for models that learned without, too")
    precision: Literal["float32", "bfloat16"] = setting(
        "float32", "of the layers; bfloat16 is faster where the machine multiplies in it, and makes other performances"
    )
    primer_notes: tuple[tuple[float, float, int, int], ...] = setting(
        (), "or notes to begin with: onset and end in s, pitch, velocity of each"
    )

    def __post_init__(self) -> None:
        require(1 <= self.num_steps <= 10_000_000, "num_steps", self.num_steps, "between 1 and 10000000")
        require(1e-3 <= self.temperature <= 1e6, "temperature", self.temperature, "between 0.001 and 1000000")
        require(0.0 < self.top_p <= 1.0, "top_p", self.top_p, "in (0, 1]")
        for name in ("beam_size", "branch_factor", "steps_per_iteration"):
            require(1 <= getattr(self, name) <= 1024, name, getattr(self, name), "between 1 and 1024")
        many = self.candidates <= MOST_ROWS
        require(many, "beam_size, branch_factor", self.candidates, f"of which the product is at most {MOST_ROWS}")
        right = all(isinstance(pitch, int) and 0 <= pitch <= 127 for pitch in self.primer_pitches)
        require(right, "primer_pitches", self.primer_pitches, "of MIDI pitches, like [60, 64, 67]")
        right = all(isinstance(event, int) and -2 <= event <= 127 for event in self.primer_melody)
        require(right, "primer_melody", self.primer_melody, "of pitches, -1 and -2, like [60, -2, 62, -1]")
        right = _weights(self.notes_per_second)
        require(right, "notes_per_second", self.notes_per_second, f"of numbers from 0 to {_MOST:g}")
        for histogram in self.pitch_class_histogram:
            right = isinstance(histogram, tuple) and len(histogram) == 12 and _weights(histogram)
            require(right, "pitch_class_histogram", histogram, f"of 12 numbers from 0 to {_MOST:g}, or of several such")
        right = all(isinstance(off, bool) for off in self.disable_conditioning)
        require(right, "disable_conditioning", self.disable_conditioning, "True, False, or a list of them")
        one_of("precision", self.precision, ("float32", "bfloat16"))
        right = all(isinstance(note, tuple) and len(note) == 4 for note in self.primer_notes)
        require(right, "primer_notes", self.primer_notes, "of (onset, end, pitch, velocity)")

    @classmethod
    def from_flags(cls, flags: Mapping[str, Any]) -> GenerationSettings:
        """Settings as the original's flags give them: lists as text, ``[60, 64]``, and one value for a list of one.

        Empty text and None leave a setting at its default.

        Raises:
            InputError: a value that cannot be read, or is out of range (``config_invalid``).
        """
        return cls(**{name: _value(name, flag) for name, flag in flags.items() if flag is not None and flag != ""})

    def check(self, config: NetworkConfig) -> None:
        """Refuse what a network cannot do.

        Raises:
            InputError: it is not steered so, or not to be constrained (``config_invalid``).
        """
        for name, able in (
            ("notes_per_second", config.density),
            ("pitch_class_histogram", config.histogram),
            ("disable_conditioning", config.optional),
        ):
            given: tuple[Any, ...] = getattr(self, name)
            require(able or not given, name, given, f"for a model that is steered so; {config.name} is not")
        events = config.encoding != "notes"
        require(events or not self.constrained, "constrained", True, "false: the model makes notes, not events of keys")

    @property
    def candidates(self) -> int:
        """Performances that are followed at a time for each that is made."""
        return self.beam_size * self.branch_factor

    @property
    def density(self) -> float:
        """Mean notes a second to expect."""
        return sum(self.notes_per_second) / len(self.notes_per_second) if self.notes_per_second else DEFAULT_DENSITY


def _value(name: str, flag: Any) -> Any:
    """A flag's value: lists as tuples, of a tuple's setting one value as a tuple of one."""
    kinds = {each.name: type(each.default) for each in fields(GenerationSettings)}
    one_of("flag", name, tuple(kinds))
    if kinds[name] is not tuple:
        return flag
    value = flag
    if isinstance(flag, str):
        try:
            value = ast.literal_eval(flag.strip().replace("true", "True").replace("false", "False"))
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            require(False, name, repr(flag[:80]), "or a list of them, in brackets")
    values = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    if name != "pitch_class_histogram":
        return values
    single = not any(isinstance(each, (list, tuple)) for each in values)
    return (values,) if single else tuple(tuple(each) if isinstance(each, list) else each for each in values)


def _weights(values: Iterable[float]) -> bool:
    numbers = list(values)
    return all(isinstance(value, (int, float)) and 0 <= value <= _MOST for value in numbers)

"""Pieces by number, as bulk jobs ask for them: MIDI files of what is composed."""

from __future__ import annotations

from collections.abc import Sequence

from dexter_model.composer.generation import Composer
from dexter_model.composer.plan import Composing
from dexter_model.composer.reconstruction import composition_as_midi
from dexter_model.systems import Made
from dexter_model.training.checkpoint import Checkpoint, load_checkpoint

HOW = Composing
load_model = load_checkpoint


def checked(checkpoint: Checkpoint, how: Composing) -> Composing:
    """Settings, unless they do not fit the model (``InputError``, ``option_invalid``)."""
    Composer.of(checkpoint, how)
    return how


class Maker:
    """Makes pieces, on the GPU if there is one; a piece has the same bytes whatever is made beside it."""

    def __init__(self, checkpoint: Checkpoint, how: Composing, seed: int) -> None:
        self.composer = Composer.of(checkpoint, how, seed)

    def run(self, numbers: Sequence[int]) -> list[Made]:
        """The pieces of these numbers."""
        composer = self.composer
        return [
            Made(composition_as_midi(notes, composer.tempo), len(notes), float(notes["offset_sec"].max(initial=0.0)))
            for notes in composer.compose(numbers)
        ]

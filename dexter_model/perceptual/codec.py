"""The one door to the perceptual features of a performance, whatever they come from."""

from __future__ import annotations

from dexter_model.codec.performance_codec import EncodedPerformance
from dexter_model.errors import InputError
from dexter_model.notes import Performance, Score
from dexter_model.perceptual.features import PerceptualFeatures, nothing_known


def compute(
    kind: str, performance: Performance, encoded: EncodedPerformance, score: Score, csv_path: str | None = None
) -> PerceptualFeatures:
    """Perceptual features of a performance; their clock is that of ``decode``: 0 is the first matched note.

    Args:
        kind: ``csv`` (what ``csv_path`` holds, nothing when there is none), ``estimate``, ``cnn:CHECKPOINT`` (the
            performance is played by FluidSynth and heard by the network), or ``none``.
        performance: as it was read.
        encoded: its codec.
        score: the whole score the codec's ``rows`` count in.
        csv_path: the performance's ``*_cep_features.csv``.

    Raises:
        InputError: the CSV or the checkpoint cannot be read, or ``kind`` is none of these (``perceptual_source``).
    """
    name, _, checkpoint = kind.partition(":")
    if name == "none" or (name == "csv" and csv_path is None):
        return nothing_known()
    if name == "csv":
        from dexter_model.perceptual.cep_csv import load_cep_csv

        assert csv_path is not None
        features = load_cep_csv(csv_path)
    elif name == "estimate":
        from dexter_model.perceptual.estimate import estimate

        notated = Score(encoded.note_id, score.notes[encoded.rows])
        features = estimate(performance, notated, encoded.p_codec, encoded.matched, encoded.start)
    elif name == "cnn" and checkpoint:
        from dexter_model.perceptual.hearing import hear

        features = hear(performance, checkpoint)
    else:
        remedy = "Give csv, estimate, cnn:CHECKPOINT or none"
        raise InputError(kind, "is no source of perceptual features", remedy, "perceptual_source")
    return features.shifted(-encoded.start)

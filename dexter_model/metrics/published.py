"""Tables in the shapes that DExter's paper has (Zhang et al. 2024, arXiv 2406.14850), to be read beside it.

Attribute by {deviation, KL, correlation}, transfer depth by attribute, guidance weight by attribute, and steered
feature by {less, normal, more}. The last column, ``paper``, is empty: its figures are on other corpora and splits, and
whoever has the article can fill them in.

Cells are {mean, low, high} or None; a table has ``heading``, ``note``, ``columns`` and ``rows``, each of a ``label``
and as many ``cells`` as there are columns.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from dexter_model.metrics.contests import REFERENCES
from dexter_model.metrics.renders import MADE_BY
from dexter_model.metrics.steering import HEARD
from dexter_model.notes import PERCEPTUAL_FEATURES

ATTRIBUTES = {  # the published name: the feature here
    "articulation_feature.kor": "kor",
    "asynchrony_feature.pitch_cor": "pitch_cor",
    "asynchrony_feature.delta": "delta",
    "dynamics_feature.agreement": "agreement",
    "dynamics_feature.consistency_std": "consistency_std",
    "dynamics_feature.ramp_cor": "ramp_cor",
    "dynamics_feature.tempo_cor": "tempo_cor",
    "pedal_feature.onset_value": "pedal",
    "tempo_curve": "tempo_curve",
    "vel_curve": "velocity_curve",
}
MEASURES = {"deviation": "Deviation", "absolute_deviation": "|Deviation|", "kl": "KL", "correlation": "Correlation"}
SETTINGS = ("less", "normal", "more")
LEVELS: dict[str | float, str] = {
    **dict(zip(SETTINGS, SETTINGS, strict=True)),
    **dict(zip((-1, 0, 1), SETTINGS, strict=True)),
}
PAPER = "paper"

Table = dict[str, Any]


def attribute_tables(table: Mapping[str, Any]) -> list[Table]:
    """Attribute by measure: for each system one table against each human, and one against all of a piece at once.

    Args:
        table: of an evaluation (``metrics.tables``), with ``systems`` and ``rows``.
    """
    known = _cells(table)
    shapes = (("", "against each human"), ("space_", "in the ground-truth space"))
    return [
        {
            "heading": f"{system}, {against}",
            "note": "Deviation is signed, so that errors cancel: beside it the mean of its absolute value.",
            "columns": [*MEASURES.values(), PAPER],
            "rows": [
                {
                    "label": published,
                    "cells": [*(known.get((system, name, prefix + measure)) for measure in MEASURES), None],
                }
                for published, name in ATTRIBUTES.items()
            ],
        }
        for system in table["systems"]
        if system not in REFERENCES
        for prefix, against in shapes
    ]


def setting_tables(table: Mapping[str, Any], systems: Sequence[Mapping[str, Any]]) -> list[Table]:
    """Transfer depth by attribute and guidance weight by attribute, a table a measure.

    Rows of one table are systems that differ in nothing but the depth or the guidance; there are as many tables as
    there are ways to set the rest.

    Args:
        table: of an evaluation.
        systems: of the same, with their names and how they were rendered (``renders.MADE_BY``).
    """
    found = []
    for swept, of, sign in (("depth", "Transfer depth f", "f"), ("guidance", "Guidance weight w", "w")):
        some = [each for each in systems if each["name"] in table["systems"] and each.get(swept) is not None]
        for told, group in _alike(some, partial(_all_but, swept)):
            if len({each[swept] for each in group}) > 1:
                rows, heading = _labelled(group, swept, sign), f"{of}{told}"
                found += [setting_table(table, rows, name, heading) for name in ("deviation", "kl", "correlation")]
    return found


def _labelled(group: Sequence[Mapping[str, Any]], swept: str, sign: str) -> list[tuple[str, str]]:
    """What each system's row is called, and its name, which is told where rows would be called alike."""
    ordered = sorted(group, key=lambda each: each[swept])
    rows = [(f"{sign} = {each[swept]:g}", each["name"]) for each in ordered]
    labels = [label for label, _ in rows]
    return [(f"{label} ({name})" if labels.count(label) > 1 else label, name) for label, name in rows]


def _all_but(swept: str, system: Mapping[str, Any]) -> dict[str, Any]:
    return {name: system.get(name) for name in MADE_BY if name != swept}


def steering_tables(table: Mapping[str, Any], systems: Sequence[Mapping[str, Any]]) -> list[Table]:
    """Steered feature by {less, normal, more}, of systems that were steered in one feature to one of these.

    Arguments as for ``setting_tables``; there are as many tables as there are ways to set the rest.
    """

    def asked(system: Mapping[str, Any]) -> dict[str, Any]:
        return (system.get("controls") or {}).get("steer") or {}

    def rest(system: Mapping[str, Any]) -> dict[str, Any]:
        others = {name: value for name, value in (system.get("controls") or {}).items() if name != "steer"}
        return {name: system.get(name) for name in MADE_BY} | {"controls": others}

    known = _cells(table)
    found = []
    steered = [each for each in systems if each["name"] in table["systems"] and len(asked(each)) == 1]
    for told, group in _alike(steered, rest):
        cells: dict[str, dict[str, Any]] = {}
        for each in group:
            ((feature, level),) = asked(each).items()
            if level in LEVELS:
                cells.setdefault(feature, {})[LEVELS[level]] = known.get((each["name"], feature, HEARD))
        found += [steering_table(cells, told)] if cells else []
    return found


def _alike(
    systems: Sequence[Mapping[str, Any]], rest: Callable[[Mapping[str, Any]], Mapping[str, Any]]
) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    """Groups of systems with equal ``rest`` settings, and in brackets what tells each group from the others."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for system in systems:
        groups.setdefault(json.dumps(rest(system)), []).append(system)
    settings = [rest(group[0]) for group in groups.values()]
    for how, group in zip(settings, groups.values(), strict=True):
        differs = [name for name in how if any(other[name] != how[name] for other in settings)]
        told = ", ".join(f"{name} {_plain(how[name])}" for name in differs)
        yield (f" ({told})" if told else ""), group


def _plain(value: Any) -> str:
    """How a setting is told: of a checkpoint label and digest, of controls what they are."""
    if not isinstance(value, Mapping):
        return str(value)
    if set(value) == {"label", "digest"}:
        return f"{value['label']} {value['digest']:.8}"
    return " ".join(f"{name} {_plain(each)}" for name, each in value.items())


def setting_table(table: Mapping[str, Any], systems: Sequence[tuple[str, str]], measure: str, of: str) -> Table:
    """Setting by attribute: transfer depths f or guidance weights w, each evaluated as a system.

    Args:
        table: of an evaluation.
        systems: what the row of each setting is called (``f = 0.25``, ``w = 1.2``), and its system.
        measure: ``correlation``, ``kl``, ``deviation`` or one of their ``space_`` forms.
        of: what the settings are, for the heading.
    """
    known = _cells(table)
    return {
        "heading": f"{of}: {MEASURES.get(measure, measure.replace('_', ' '))}",
        "note": "",
        "columns": [*ATTRIBUTES, PAPER],
        "rows": [
            {"label": label, "cells": [*(known.get((system, name, measure)) for name in ATTRIBUTES.values()), None]}
            for label, system in systems
        ],
    }


def steering_table(found: Mapping[str, Mapping[str, Mapping[str, float | None] | None]], told: str = "") -> Table:
    """Steered feature by {less, normal, more}: where the feature of the output lies, as a proxy estimates it.

    Args:
        found: a cell {mean, low, high} by perceptual feature and by setting; what is missing stays empty.
        told: how the renders were made otherwise, for the heading.
    """
    return {
        "heading": f"Steering{told}",
        "note": "Mean of the steered feature in renders less that of the piece's human performances, as estimated, in "
        "standard deviations of the model's training performances.",
        "columns": [*SETTINGS, PAPER],
        "rows": [
            {"label": name, "cells": [*(found.get(name, {}).get(setting) for setting in SETTINGS), None]}
            for name in PERCEPTUAL_FEATURES
        ],
    }


def _cells(table: Mapping[str, Any]) -> dict[tuple[str, str, str], dict[str, float | None] | None]:
    return {
        (row["system"], row["feature"], row["measure"]): (
            None if row["mean"] is None else {name: row[name] for name in ("mean", "low", "high")}
        )
        for row in table["rows"]
    }

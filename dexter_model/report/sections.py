"""What each section of the report says, as plain values for the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from importlib import metadata
from platform import python_version
from typing import TYPE_CHECKING, Any

import polars as pl

from dexter_model.dataset.perceptual import told_sources
from dexter_model.metrics.contests import HUMAN, REFERENCES
from dexter_model.renders import MADE_FROM
from dexter_model.report.figures import correlations, loss_curve
from dexter_model.report.html import count, difference_table, main_table, metric_tables, number, short, value_table
from dexter_model.report.quality import quality_section

if TYPE_CHECKING:
    from dexter_model.dataset.store import DatasetVersion

LISTED = 300  # quarantined performances on the page; the command lists all
MIDI_ONLY = "MIDI files alone, aligned with their scores; articulation by key-down durations"
LIBRARIES = ("numpy", "torch", "partitura", "ray", "prefect", "icechunk", "zarr")

Row = dict[str, Any]


def provenance(
    code_version: str, data: DatasetVersion | None, checkpoint: Mapping[str, Any] | None, evaluation: Row | None
) -> list[tuple[str, str, str]]:
    """What everything came from: rows of name, value, and the full value where the shown one is shortened."""
    rows = [("code", code_version, "")]
    if data:
        rows += [("data set", f"{data.id} · {short(data.digest)}", data.digest)]
    if checkpoint:
        meta = checkpoint["meta"]
        value = f"{meta.get('label')} · step {number(meta.get('step'))} · seed {meta.get('seed')}"
        rows += [("checkpoint", f"{value} · {short(checkpoint['digest'])}", checkpoint["digest"])]
    for system in evaluation["systems"] if evaluation else ():
        maker = system.get("checkpoint") or {}
        checkpoint_used = f"checkpoint {maker.get('label')} {short(maker.get('digest'))}"
        parts = [f"{system['renders']} renders", MIDI_ONLY if system.get("midi_only") else checkpoint_used]
        parts += [
            f"{name} {system[name]}"
            for name in ("sampler", "steps", "guidance", "seed")
            if system.get(name) is not None
        ]
        rows += [(f"system {system['name']}", " · ".join(parts), system["renders_digest"])]
    if evaluation:
        rows += [("evaluation", f"seed {evaluation['seed']} · {evaluation['code_version']}", "")]
    versions = [f"Python {python_version()}", *(f"{name} {metadata.version(name)}" for name in LIBRARIES)]
    return [*rows, ("libraries", " · ".join(versions), "")]


def data_section(data: DatasetVersion) -> Row:
    """Counts by corpus, and the quarantine by reason and one by one."""
    quarantine = data.quarantine
    reasons = quarantine.group_by("code").len().sort("len", "code", descending=[True, False])
    built, refused = len(data.performances), len(quarantine)
    summary = (
        f"Version {data.id}: {count(built, 'performance')} of {count(len(data.catalogue), 'piece')} built, "
        f"{number(refused)} quarantined, {number(built + refused)} discovered."
    )
    if not data.holds_recordings:
        summary += f" Perceptual features: {told_sources(Counter(data.performances['perceptual']))}."
    listed = quarantine.sort("corpus", "performance").head(LISTED)
    return {
        "summary": summary,
        "corpora": [_corpus(data, corpus) for corpus in _corpora(data)],
        "reasons": list(reasons.iter_rows()),
        "quarantine": listed.select("corpus", "performance", "reason", "code").to_dicts(),
        "unlisted": max(0, refused - LISTED),
        "quality": quality_section(data),
    }


def _corpora(data: DatasetVersion) -> list[str]:
    return sorted({*data.catalogue["corpus"], *data.quarantine["corpus"]})


def _corpus(data: DatasetVersion, corpus: str) -> Row:
    pieces = data.catalogue.filter(pl.col("corpus") == corpus)
    performances = data.performances.filter(pl.col("corpus") == corpus)
    splits = [len(pieces.filter(pl.col("split") == split)) for split in ("train", "validation", "test")]
    counts = [len(pieces), len(performances), int(performances["synthetic"].sum()), int(pieces["notes"].sum())]
    refused = len(data.quarantine.filter(pl.col("corpus") == corpus))
    return {"corpus": corpus, "counts": [*counts, *splits, refused]}


def training_section(meta: Mapping[str, Any]) -> Row:
    """The loss curve of ``checkpoint.json`` and what it was trained on."""
    history = [row for row in meta.get("history") or [] if row[1] is not None]
    source = meta.get("dataset") or {}
    summary = f"Checkpoint “{meta.get('label')}” after {number(meta.get('step'))} steps"
    if source.get("version"):
        summary += f", trained on data set {source['version']} ({short(source.get('digest'))})"
    if history:
        summary += f"; last training loss {number(history[-1][1], 3)}"
        validated = [row[2] for row in history if len(row) > 2 and row[2] is not None]
        summary += f", last validation loss {number(validated[-1], 3)}" if validated else ""
    return {"summary": f"{summary}.", "curve": loss_curve(history) if history else None}


def evaluation_section(evaluation: Mapping[str, Any]) -> Row:
    """The metric tables of ``evaluation.json``."""
    summary = (
        "Every render against every performance of its piece: the mean over pieces, and under it its 95 % interval by "
        "bootstrap over pieces. Deadpan plays the score as written, and the rule-based performer shapes it, at the "
        "mean tempo of the piece's performances; the human column is the ceiling, each human against the others. Notes "
        "that a side did not play or name do not count."
    )
    if any(set(MADE_FROM) & set(system.get("controls") or ()) for system in evaluation["systems"]):
        summary += " A render that was made from a performance, or like one, is not compared with that performance."
    return {
        "summary": summary,
        "tables": [_table(table) for table in evaluation["tables"]],
        "refused": evaluation["refused"],
    }


def _table(table: Mapping[str, Any]) -> Row:
    kind = "synthetic" if table["synthetic"] else "human"
    about = [f"{count(table['pieces'], 'piece')}, {count(table['performances'], f'{kind} performance')}"]
    about += [f"human-to-human ceiling: {table['ceiling']}"]
    about += [f"rule-based performer {table['rules']}"] if table["rules"] else []
    if any(row["feature"] == "articulation_keydown" for row in table["rows"]):
        about += ["some renders are MIDI alone: their articulation is compared on key-down durations, on both sides"]
    drawn = [row for row in table["rows"] if row["measure"] == "correlation" and row["mean"] is not None]
    return {
        "heading": table["heading"],
        "synthetic": table["synthetic"],
        "about": "; ".join(about) + ".",
        "systems": table["systems"],
        "main": main_table(table),
        "measures": metric_tables(table),
        "space": metric_tables(table, space=True),
        "chart": correlations(drawn, table["systems"]) if drawn else None,
        "performance": [value_table(part) for part in _performance(table)],
        "attributes": [value_table(part) for name in ("attributes", "settings") for part in table.get(name, [])],
    }


def _performance(table: Mapping[str, Any]) -> list[Row]:
    """The tables over works; an evaluation of before has none."""
    differences = table.get("differences")
    return [*table.get("performance", []), *([difference_table(differences)] if differences else [])]


def tiles(data: Row | None, built: int, evaluation: Mapping[str, Any] | None) -> list[Row]:
    """The few numbers that head the page."""
    found = []
    if data:
        refused = sum(count for _, count in data["reasons"])
        found += [{"label": "Performances", "value": number(built), "note": f"{number(refused)} quarantined"}]
    for table in evaluation["tables"] if evaluation else ():
        system = next((s for s in table["systems"] if s not in REFERENCES), None)
        if system is None:
            continue
        kind = "synthetic" if table["synthetic"] else "human"
        note = count(table["performances"], f"{kind} performance")
        found += [{"label": "Evaluated on", "value": count(table["pieces"], "piece"), "note": note}]
        if table["synthetic"]:
            continue  # figures that say nothing of the model are not for the head of the page
        for feature, label in (("velocity", "Velocity correlation"), ("log_beat_period", "Tempo correlation")):
            found += [_headline(table, feature, label, system)]
    return found


def _headline(table: Mapping[str, Any], feature: str, label: str, system: str) -> Row:
    rows = {row["system"]: row for row in table["rows"] if (row["measure"], row["feature"]) == ("correlation", feature)}
    ours = rows.get(system)
    notes = [
        f"{'human ceiling' if name == HUMAN else name} {number(rows[name]['mean'])}"
        for name in REFERENCES
        if name in rows and rows[name]["mean"] is not None
    ]
    value = number(ours["mean"]) if ours and ours["mean"] is not None else "undefined"
    return {"label": label, "value": value, "note": " · ".join(notes) or table["heading"]}

# %% [markdown]
# # From a score to a performance
#
# A score is read, performed by the model that ships with the code, steered, led by a pianist, and measured against
# that pianist. Everything here is a call of the library; the command that does the same is named beside it. Nothing is
# downloaded: the scores come with the packages music21 and parangonar.
#
# This page is written by `make notebook` from `score_to_performance.py`: edit that file, not the page.

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import polars as pl

from dexter_model.codec.files import load_codec
from dexter_model.corpora import discover
from dexter_model.corpora.layouts import packaged
from dexter_model.corpora.roots import CorpusRoots
from dexter_model.dataset.store import open_version
from dexter_model.expression.rendering import default_checkpoint
from dexter_model.notes import DYNAMICS, PERCEPTUAL_FEATURES
from dexter_model.performers import deadpan, kth
from dexter_model.reading.score import load_score
from dexter_model.training.checkpoint import load_checkpoint
from tasks.build import build_dataset
from tasks.controls import Controls, heard_file
from tasks.evaluate import evaluate
from tasks.render import RenderSettings, render_scores, render_split

plt.rcParams.update({"figure.dpi": 72, "axes.spines.top": False, "axes.spines.right": False, "font.size": 9})
pl.Config.set_tbl_hide_dataframe_shape(True).set_tbl_hide_column_data_types(True).set_float_precision(2)

CHECKPOINT = default_checkpoint()
FOLDER = Path(tempfile.mkdtemp())
model = load_checkpoint(CHECKPOINT)
print(f"model: {model.label}, trained for {model.meta['step']:,} steps")

# %% [markdown]
# ## 1. The score
#
# Clara Schumann's Polonaise op. 1 no. 4 (1831). The reader turns MusicXML (or MEI, Kern, a match file, a score-MIDI)
# into one table, a row a note, with everything the page tells a pianist: the metre, dynamics in force and hairpins,
# articulation, marked tempo, key.

# %%
PATH = packaged("music21", "corpus", "schumann_clara", "polonaise_op1n4.mxl")
score = load_score(PATH)
table = pl.DataFrame({name: score.notes[name] for name in score.notes.dtype.names})
print(f"{len(table)} notes")
table.select("onset_beat", "duration_beat", "pitch", "staff", "metrical_position", "dynamic", "ramp", "tempo").head(6)

# %%
notes = score.notes
fig, roll = plt.subplots(figsize=(11, 3))
colours = plt.cm.viridis((notes["dynamic"] - 1) / 7.0)
roll.hlines(notes["pitch"], notes["onset_beat"], notes["onset_beat"] + notes["duration_beat"], colours, linewidth=2.5)
for sign, colour in ((1, "tab:red"), (-1, "tab:blue")):
    inside = notes[notes["ramp"] == sign]
    roll.plot(inside["onset_beat"], np.full(len(inside), 24), "|", color=colour, markersize=8)
changes = np.flatnonzero(np.diff(notes["dynamic"], prepend=0))
for row in changes:
    roll.text(notes["onset_beat"][row], 101, DYNAMICS[notes["dynamic"][row]], style="italic")
roll.set(xlabel="beat", ylabel="MIDI pitch", ylim=(20, 106))
roll.set_title("as written: colour is the dynamic in force, ticks are crescendi (red), diminuendi (blue)", fontsize=9)
fig.tight_layout()

# %% [markdown]
# ## 2. Performances
#
# `dexter render score.mxl --samples 4`. Every sample is another performance: the noise that sampling starts from is its
# own, by the seed. A performance is five numbers a note (beat period, velocity, timing, articulation, pedal), from
# which MIDI is decoded; both are written.


# %%
def render(name, samples=1, path=PATH, depth=0.75, **asked):
    """Renders of a score: their codec files."""
    how = {"samples": samples, "depth": depth, "controls": Controls(**asked)}
    settings = RenderSettings(checkpoint=CHECKPOINT, workers=0, **how)
    made = render_scores([path], FOLDER / name, settings)
    return [Path(made.folder, row["codec"]) for row in made.renders]


def curves(codec, onset_beat):
    """Tempo in beats a minute and mean MIDI velocity at every onset, smoothed over two beats."""
    beats = np.unique(onset_beat)
    near = np.abs(beats[:, None] - onset_beat) <= 1
    smooth = near / near.sum(1, keepdims=True)
    return beats, 60 / (smooth @ codec[:, 0]), 127 * smooth @ codec[:, 1]


def draw(performances, onset_beat, title):
    """Tempo and velocity of performances, by name."""
    fig, axes = plt.subplots(1, 2, figsize=(11, 2.8))
    for name, (codec, style) in performances.items():
        beats, tempo, velocity = curves(codec, onset_beat)
        axes[0].plot(beats, tempo, label=name, **style)
        axes[1].plot(beats, velocity, label=name, **style)
    axes[0].set(xlabel="beat", ylabel="beats a minute")
    axes[1].set(xlabel="beat", ylabel="MIDI velocity")
    axes[1].legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    fig.suptitle(title, fontsize=10)
    fig.tight_layout()


plain = [load_codec(path).p_codec for path in render("plain", samples=4)]
pace = 60 / np.mean([codec[:, 0].mean() for codec in plain])
shown = {f"sample {k}": (codec, {"linewidth": 1}) for k, codec in enumerate(plain)}
shown["rule-based"] = (kth.perform(notes, kth.Pianist("rules", noise=0), pace), {"color": "grey", "linestyle": "--"})
shown["deadpan"] = (deadpan.perform(notes, pace), {"color": "black", "linestyle": ":"})
draw(shown, notes["onset_beat"], "Four samples, the KTH rules, and the score as written at the same mean tempo")

# %% [markdown]
# ## 3. Steering
#
# `dexter render score.mxl --steer articulation=more`. A model with perceptual rows is told how the performance is to
# sound: seven features, less, normal or more, or in standard deviations of the performances it was trained on. What
# came out is heard by the estimator `symbolic-v1`, less what it hears in the deadpan score.

# %%
STEERED = ("articulation", "rhythm_complexity", "rhythm_stability")
LEVELS = ("less", "normal", "more")


def heard(codecs, feature):
    """Mean of a feature over performances, less that of the deadpan score."""
    column = PERCEPTUAL_FEATURES.index(feature)
    return float(np.nanmean([heard_file(str(path), score).delta[:, column] for path in codecs]))


rows = []
for feature in STEERED:
    row = {"feature": feature}
    for level in LEVELS:
        row[level] = heard(render(f"{feature}_{level}", samples=3, steer={feature: level}), feature)
    rows.append(row)
pl.DataFrame(rows)

# %% [markdown]
# A feature can also follow a curve over the piece (`--steer-curve FILE`). Here it goes from legato to staccato.

# %%
curve_file = FOLDER / "curve.csv"
curve_file.write_text("fraction,articulation\n0,-2\n1,2\n")
(curved,) = render("curve", steer_curve=str(curve_file))
(normal,) = render("normal")
fig, axes = plt.subplots(figsize=(11, 2.4))
beats = np.unique(notes["onset_beat"])
near = np.abs(beats[:, None] - notes["onset_beat"]) <= 4
for name, path in (("normal", normal), ("from legato to staccato", curved)):
    articulation = load_codec(path).p_codec[:, 3]
    axes.plot(beats, near @ articulation / near.sum(1), label=name)
axes.set(xlabel="beat", ylabel="log2 of sounding\n/ written duration")
axes.legend(frameon=False, fontsize=8)
fig.tight_layout()

# %% [markdown]
# ## 4. Led by a pianist
#
# `dexter render SCORE --source PERFORMANCE --depth 0.75`: sampling starts from a performance that is noised part of the
# way. The deeper, the less of it is left. The pianist plays the first variation of Mozart's K 265 (the aligned
# performance in the package parangonar).

# %%
PIANIST = packaged("parangonar", "assets", "mozart_k265_var1.match")
variation = load_score(PIANIST)
human = heard_file(str(PIANIST), variation).codec
depths = {}
for depth in (0.25, 0.5, 0.75, 1.0):
    (path,) = render(f"depth_{depth}", path=PIANIST, source=str(PIANIST), depth=depth)
    depths[depth] = load_codec(path).p_codec


def likeness(codec):
    """Correlation with the pianist: velocity and log beat period."""
    return [np.corrcoef(f(codec), f(human))[0, 1] for f in (lambda c: c[:, 1], lambda c: np.log(c[:, 0]))]


shown = {"pianist": (human, {"color": "black", "linewidth": 2})}
shown |= {f"depth {depth}": (codec, {"linewidth": 1}) for depth, codec in depths.items()}
draw(
    shown,
    variation.notes["onset_beat"],
    "Mozart K 265, variation 1: a pianist, and performances that start there",
)
rows = [(depth, *likeness(codec)) for depth, codec in depths.items()]
pl.DataFrame(rows, schema=["depth", "velocity", "tempo"], orient="row")

# %% [markdown]
# ## 5. Measured against the pianist
#
# `dexter dataset build`, `dexter render --store`, `dexter evaluate`, `dexter report`. The folder with the match file
# becomes a data set of one piece; eight samples are compared with the pianist, beside the score as written and the KTH
# rules. One performance is no statistics: it shows how the measures come about. The model card holds the real figures.

# %%
store, evaluated = str(FOLDER / "store"), FOLDER / "evaluated"
build_dataset(discover("FOLDER", CorpusRoots(data_root=PIANIST.parent)), store, workers=0)
renders = FOLDER / "model"
(split,) = open_version(store).catalogue["split"]
render_split(store, split, renders, RenderSettings(checkpoint=CHECKPOINT, samples=8, workers=0))
evaluate(store, [renders], evaluated, workers=0)
measures = pl.read_parquet(evaluated / "measures.parquet")
shown = ("velocity", "log_beat_period", "timing", "articulation", "pedal")
(
    measures.filter(pl.col("measure") == "correlation", pl.col("feature").is_in(shown))
    .group_by("system", "feature", maintain_order=True)
    .agg(pl.col("value").fill_nan(0).fill_null(0).mean())
    .pivot("feature", index="system", values="value")
    .select("system", *shown)
)

# %% [markdown]
# Correlation of each column of the codec with the pianist's, note by note; a constant counts as 0. Single samples
# correlate less than their mean: each has a mind of its own, and their mean is what the model expects.
#
# Next: `dexter run configs/demo.yaml` goes from corpora to a report of all of this by one command.

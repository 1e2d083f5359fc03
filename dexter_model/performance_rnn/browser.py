"""A network that plays in a web browser: one page that holds everything, its weights too, and asks nobody for anything.

The page is the files of ``page/`` put together; a browser opens it from a disk as from a server. It works out LSTM
layers itself, so what it can do is events, with or without steering, through layers that neither attend nor add. Its
weights are those that ``PerformanceRnn.step`` uses, made ready for it: rows of the first kernel that events gather
(of places on circles, too), the forget gate's lift in the biases.
"""

from __future__ import annotations

import base64
import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dexter_model.errors import InputError
from dexter_model.performance_rnn.config import NetworkConfig
from dexter_model.performance_rnn.encodings import heads, token_table
from dexter_model.performance_rnn.generation import load_network
from dexter_model.performance_rnn.layers import FORGET_BIAS
from dexter_model.performance_rnn.network import PerformanceRnn
from dexter_model.places import write
from dexter_model.training.checkpoint import Checkpoint

SCRIPTS = ("network.js", "player.js", "piano.js", "midi.js", "keyboard.js", "page.js")
Precision = Literal["float16", "float32"]


def export_page(checkpoint: Checkpoint, out: str | Path, *, precision: Precision = "float16") -> None:
    """Write the page of a model.

    Args:
        checkpoint: the model; what it is not steered by is not shown.
        out: the HTML file, in a folder or at S3.
        precision: of the weights in the file; the page computes in float32.

    Raises:
        InputError: the page cannot play such a network, or a weight is no number of that precision
            (``page_impossible``); weights do not fit settings (``checkpoint_unreadable``).
    """
    network = load_network(checkpoint)
    _refuse_unplayable(checkpoint, network.config)
    weights = weights_of(network)
    with np.errstate(over="ignore"):
        narrow = weights.astype(f"<f{2 if precision == 'float16' else 4}")
    if not np.isfinite(narrow).all():
        reason, remedy = f"has weights that are no {precision} numbers", "Give another model, or take float32"
        raise InputError(checkpoint.path, reason, remedy, "page_impossible")
    parts = {
        "style": _file("page.css"),
        "told": json.dumps(_told(checkpoint, network, precision), sort_keys=True).replace("<", "\\u003c"),
        "weights": base64.b64encode(narrow.tobytes()).decode(),
        "scripts": "\n".join(map(_file, SCRIPTS)),
    }
    page = re.sub(r"/\* (\w+) \*/", lambda place: parts[place[1]], _file("page.html"))
    write(out, page.encode())


def weights_of(network: PerformanceRnn) -> np.ndarray:
    """All weights (n,) in the order in which the page takes them.

    First layer: rows (4 H) of events, of controls, of its own cells, bias; other layers: kernel, bias; then the head.
    """
    config = network.config
    state = {name: value.detach().double().numpy() for name, value in network.state_dict().items()}
    parts: list[np.ndarray] = []
    for index, cells in enumerate(config.layers):
        kernel, bias = state[f"layers.{index}.kernel"], state[f"layers.{index}.bias"].copy()
        bias[2 * cells : 3 * cells] += FORGET_BIAS
        if index == 0:
            own = len(kernel) - cells
            parts += [token_table(config) @ kernel[config.controls : own], kernel[: config.controls], kernel[own:]]
        else:
            parts.append(kernel)
        parts.append(bias)
    parts += [state["head.weights"], state["head.biases"]]
    return np.concatenate([part.ravel() for part in parts])


def _refuse_unplayable(checkpoint: Checkpoint, config: NetworkConfig) -> None:
    for unplayable, what in (
        (config.encoding == "notes", "predicts notes, not events"),
        (config.attention > 0, "attends to its own outputs"),
        (config.residual, "adds inputs to outputs"),
    ):
        if unplayable:
            remedy = "Give a model of events with plain LSTM layers"
            raise InputError(checkpoint.path, f"{what}, which the page cannot", remedy, "page_impossible")


def _told(checkpoint: Checkpoint, network: PerformanceRnn, precision: Precision) -> dict[str, Any]:
    """What the page knows of the model beside its weights."""
    config = network.config
    return {
        "id": config.name,
        "label": checkpoint.label,
        "step": int(checkpoint.meta["step"]),
        "parameters": sum(each.numel() for each in network.parameters()),
        "precision": precision,
        "layers": list(config.layers),
        "classes": sum(heads(config)),
        "bins": config.velocity_bins,
        "controls": config.controls,
        "density": config.density,
        "histogram": config.histogram,
        "optional": config.optional,
    }


def _file(name: str) -> str:
    return (files("dexter_model.performance_rnn") / "page" / name).read_text(encoding="utf-8")

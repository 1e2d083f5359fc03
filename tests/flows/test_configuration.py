"""Parameters: what ships is valid, every mistake is told at once, later sources win."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, TypeAdapter

from dexter_model.composer.config import REFERENCE
from dexter_model.composer.plan import REFERENCE as AS_THE_ORIGINAL
from dexter_model.errors import InputError
from flows import parameters
from flows.configuration import load, load_any
from flows.parameters import BuildParameters, JobParameters, TrainParameters

ROOT = Path(__file__).parents[2]
DEPLOYMENTS: list[dict[str, Any]] = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]


def test_the_configs_that_ship_are_valid() -> None:
    demo = load(JobParameters, ROOT / "configs" / "demo.yaml")
    assert (demo.build.store, demo.train.store) == ("dexter-out/dataset", "dexter-out/dataset")
    assert load(TrainParameters, ROOT / "configs" / "dexter.yaml").denoiser.channels == 768
    assert load(TrainParameters, ROOT / "configs" / "default.yaml").denoiser.channels == 96
    for system in ("performance_rnn", "composer"):
        for path in sorted((ROOT / "configs" / system).glob("*.yaml")):
            kinds = parameters.GENERATION if path.stem.startswith("generate") else parameters.TRAINING
            assert load_any(kinds, "dexter", path).system == system
    nightly = load(parameters.NightlyParameters, ROOT / "configs" / "nightly.yaml")
    assert nightly.render.store == nightly.build.store == "dexter-out/dataset"


def test_the_original_composer_is_trained_and_composes_by_its_files() -> None:
    folder = ROOT / "configs" / "composer"
    assert load_any(parameters.TRAINING, "dexter", folder / "reference.yaml").config() == REFERENCE
    made = load_any(parameters.GENERATION, "composer", folder / "generate_reference.yaml")
    assert isinstance(made, parameters.GenerateComposerParameters)
    assert made.how == AS_THE_ORIGINAL


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda deployment: deployment["name"])
def test_deployments_name_flows_and_parameters_they_take(deployment: dict[str, Any]) -> None:
    module, _, name = deployment["entrypoint"].rpartition(".")
    function = getattr(importlib.import_module(module), name)
    kind = inspect.get_annotations(function, eval_str=True)["parameters"]
    assert isinstance(TypeAdapter(kind).validate_python(deployment["parameters"]["parameters"]), BaseModel)


def test_every_field_of_the_forms_says_what_it_is() -> None:
    kinds = [kind for name, kind in vars(parameters).items() if name.endswith("Parameters") and name[0] != "_"]
    assert len(kinds) > 7
    for kind in kinds:
        schema = kind.model_json_schema()
        for part in (schema, *schema.get("$defs", {}).values()):
            assert [name for name, about in part.get("properties", {}).items() if "description" not in about] == []


def test_defaults_file_overrides_options_each_win_over_the_last(tmp_path: Path) -> None:
    config = tmp_path / "build.yaml"
    config.write_text("store: file\nworkers: 7\nretry_quarantined: true\n")
    made = load(BuildParameters, config, ["store=override", "workers=8"], {"workers": 9, "store": None})
    assert (made.corpora, made.retry_quarantined, made.store, made.workers) == (["DEMO"], True, "override", 9)


def test_a_dotted_override_reaches_inside() -> None:
    made = load(TrainParameters, None, ["training.steps=7", "denoiser.target=x_0"])
    assert (made.training.steps, made.denoiser.target, made.denoiser.channels) == (7, "x_0", 768)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["training.steps=0"], "training.steps"),
        (["training.seed=-1"], "training.seed"),
        (["training.validation_windows=0"], "training.validation_windows"),
        (["training.recon_loss_weight=.nan"], "training.recon_loss_weight"),
        (["training.column_weights=[1, 1, 1, 1, .inf]"], "training.column_weights"),
        (["denoiser.colour=red", "label=[1]"], "denoiser.colour"),
        (["store=x", "store.inner=3"], "store is a single value"),
        (["training.steps={"], "no YAML"),
    ],
)
def test_mistakes_are_told_by_their_key(overrides: list[str], told: str) -> None:
    with pytest.raises(InputError) as raised:
        load(TrainParameters, None, overrides)
    assert told in str(raised.value)
    assert raised.value.code == "config_invalid"


@pytest.mark.parametrize("content", ["- a\n- b\n", "{unclosed", "\x00"])
def test_files_that_hold_no_parameters_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "bad.yaml").write_text(content)
    with pytest.raises(InputError) as raised:
        load(BuildParameters, tmp_path / "bad.yaml")
    assert raised.value.code == "config_invalid"

"""Parameters from a YAML file, dotted overrides and options of a command, checked before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from dexter_model.errors import InputError

Parameters = TypeVar("Parameters", bound=BaseModel)


def load(
    kind: type[Parameters],
    config: Path | None = None,
    overrides: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
) -> Parameters:
    """Parameters of ``kind``: its defaults < the YAML file < ``key=value`` overrides < options that are not None.

    For training the composer, the file may be the ``config.py`` of its original (``composer.original``).

    Raises:
        InputError: no such file, no YAML, or values the parameters do not accept; every one of them is named.
    """
    given = [*map(_parsed, overrides), *(each for each in (options or {}).items() if each[1] is not None)]
    values = _read(config) if config else {}
    if config and config.suffix == ".py":
        values |= _of_original(config, kind, dict(given))
    for key, value in given:
        _set(values, key, value)
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        told = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'the whole'}: {e['msg']}" for e in error.errors())
        raise InputError(
            config or "options", told, f"Known keys: {', '.join(kind.model_fields)}", "config_invalid"
        ) from None


def load_any(
    kinds: Mapping[str, type[Parameters]],
    system: str,
    config: Path | None = None,
    overrides: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
) -> Parameters:
    """Parameters of the kind that ``system`` names, in the options, the overrides or the file; else of this default.

    Raises:
        InputError: there is no such system (``system_unknown``), or as ``load``.
    """
    values = [options or {}, dict(map(_parsed, overrides)), _read(config) if config else {}]
    named = next((str(told["system"]) for told in values if told.get("system")), system)
    if named not in kinds:
        raise InputError(
            config or "system", f"no system is called {named}", f"Choose one of {', '.join(kinds)}", "system_unknown"
        )
    return load(kinds[named], config, overrides, {**(options or {}), "system": named})


def _read(config: Path) -> dict[str, Any]:
    if config.suffix == ".py":
        return {"system": "composer"}  # the rest wants the data set: ``_of_original``
    try:
        values = yaml.safe_load(config.read_text()) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            config, f"not a readable YAML file ({reason})", "Check the path and the file", "config_invalid"
        ) from None
    if not isinstance(values, dict):
        raise InputError(config, "holds no mapping of keys to values", "Write `key: value` lines", "config_invalid")
    return values


def _of_original(config: Path, kind: type[BaseModel], given: dict[str, Any]) -> dict[str, Any]:
    """The settings of a ``config.py``, whose epochs are steps on the data set that is given."""
    if not {"system", "store", "data"} <= kind.model_fields.keys():
        remedy = "Give a YAML file: config.py of the composer's original is for training it alone"
        raise InputError(config, "is a Python file", remedy, "config_invalid")
    from dexter_model.composer.original import config_of_original, keys_of
    from dexter_model.dataset.store import open_version

    keys = keys_of(config)
    store = str(given.get("store", kind.model_fields["store"].default))
    pieces = open_version(store, given.get("version")).catalogue
    return config_of_original(keys, pieces.filter(pieces["split"] == "train")["notes"]).to_dict()


def _parsed(override: str) -> tuple[str, Any]:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise InputError(f"-s {override}", "is no key=value", "Write it as `-s training.steps=100`", "config_invalid")
    try:
        return key, yaml.safe_load(text)
    except yaml.YAMLError:
        raise InputError(f"-s {override}", "has a value that is no YAML", "Quote it", "config_invalid") from None


def _set(values: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    for parent in parents:
        inner = values.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise InputError(
                f"-s {dotted}", f"{parent} is a single value", "Name a key that holds keys", "config_invalid"
            )
        values = inner
    values[last] = value


def named(option: str, pairs: Sequence[str], example: str = "basis-mixer=midi") -> dict[str, str]:
    """The values of a repeated option such as ``example`` by name.

    Raises:
        InputError: one of them is none, or a name is given twice.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        if not name or not value:
            remedy = f"Write it as `{option} {example}`"
            raise InputError(f"{option} {pair}", "is no name with a value", remedy, "option_invalid")
        if name in found:
            raise InputError(f"{option} {pair}", "is a name given twice", "Choose another name", "option_invalid")
        found[name] = value
    return found

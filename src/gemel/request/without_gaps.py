"""Settings with every option of every section written out."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from gemel import backbones
from gemel.errors import UserError
from gemel.settings.recipes import OPTIMIZERS, VIEWS
from gemel.settings.schema import convert, mistakes_in, schema_of
from gemel.settings.tree import merge

TABLES: dict[str, Mapping[str, type[BaseModel]]] = {"views": VIEWS, "optimizer": OPTIMIZERS}
"""sections of both stages, and what their names stand for"""


def without_gaps(values: dict[str, Any], schema: type[BaseModel]) -> dict[str, Any]:
    """Every option of the method and of the backbone written out, so that run.yaml leaves nothing to a default."""
    full = dict(values)
    for section, model in (("method", schema), ("backbone", schema_of(backbones.find(values["backbone"]["name"])))):
        named = {key: value for key, value in values[section].items() if key in ("name", "recipe")}
        options = {key: value for key, value in values[section].items() if key not in named}
        is_open = values.get("classes") == "auto"  # until the features are seen
        if "classes" in model.model_fields and not is_open:
            options["classes"] = values["classes"]
        found = convert(model, options, section)
        if section == "method" and "classes" in found:
            number = found.pop("classes")
            full["classes"] = "auto" if is_open else number
        full[section] = named | found
    for section in TABLES:
        full[section] = _written_out(section, values[section], section)
    full["then"] = _second_stage(values.get("then") or {}, full)
    return full


def _written_out(section: str, values: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Views or an optimiser with every number; `key` is how the user speaks of them."""
    name = str(values["name"])
    schema = TABLES[section][name]
    title = f"{name}, which was chosen"
    wrong = mistakes_in(values, schema.model_fields, lambda dotted: f"--{dotted}", section=key, title=title)
    if wrong:
        raise UserError(*(f"{one}; or name another with --{key}" for one in wrong))
    return convert(schema, values, key)


def _second_stage(asked: Mapping[str, Any], first: Mapping[str, Any]) -> dict[str, Any]:
    """The second stage written out: what it leaves open is as in the first."""
    found: dict[str, Any] = {"epochs": asked.get("epochs", 0)}
    if str(found["epochs"]) != "0":
        for section in TABLES:
            values = merge({section: first[section]}, {section: asked.get(section) or {}})[section]
            found[section] = _written_out(section, values, f"then.{section}")
    return found

"""Settings: the schema, and the one checker of flags, YAML and Python calls.

Three doors, one checker: each door gives a nested mapping (a `Layer`), every layer meets the same schema, and all
mistakes are told at once with the name as it was typed. Knows no method: their schemas are handed in.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, Self

import yaml
from pydantic import AfterValidator, BaseModel, Field, PositiveFloat

from gemel.errors import UserError, brief
from gemel.settings.config_file import read_mapping
from gemel.settings.recipes import (
    OPTIMIZERS,
    VIEWS,
    Count,
    Description,
    Optimizer,
    Probability,
    Side,
    Stage,
    Views,
    split_name,
)
from gemel.settings.schema import mistakes_in, nearest, plain
from gemel.settings.view_presets import VIEW_FAMILIES


def _place(text: str) -> str:
    """A path that a file system can have; the words of a mistake otherwise."""
    if not text or "\0" in text:
        raise ValueError("is empty; name a place" if not text else "holds a zero byte, which no path can")
    try:
        data = os.fsencode(text)
    except UnicodeEncodeError as error:
        raise ValueError("holds halves of characters, which no path can") from error
    if len(data) > 4095 or max(map(len, data.split(os.fsencode(os.sep)))) > 255:
        raise ValueError("is too long for a path: at most 4095 bytes, and 255 between two separators")
    return text


Place = Annotated[str, AfterValidator(_place)]

SECTIONS = ("method", "backbone", "views", "optimizer", "then")


class Settings(Description):
    """What makes a run; `run.yaml` holds it with every value. Empty means: chosen from the images and the machine."""

    images: Place = "digits"
    """folder (searched recursively), text file of paths, or name of a data set"""
    method: dict[str, Any] = Field(default={"name": "twist"})
    """name, or name/recipe; its options as --method.KEY"""
    backbone: dict[str, Any] | None = None
    """a network of gemel's or of timm's by name; its options as --backbone.KEY"""
    epochs: Count | None = None
    """passes over the images"""
    minutes: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """time to spend; sets the epochs from a few measured steps"""
    batch_size: Annotated[int, Field(ge=2, le=1_000_000)] | None = None
    """images a step, over all processes"""
    image_size: Side | None = None
    """side of a view, pixels"""
    classes: Annotated[int, Field(ge=2, le=1_000_000)] | None = None
    """classes to discover"""
    labels: Place | None = None
    """none, folders or FILE.csv; never used to train, only for scores"""
    weights: Place | None = None
    """what to start from: a run, a file, or timm (its pretrained weights)"""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """of everything that is drawn by chance"""
    workers: Annotated[int, Field(ge=0, le=1024)] | None = None
    """threads that prepare views; 0: the training one does"""
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    """of a process's arithmetic on the CPU"""
    precision: Literal["32", "bf16", "16"] | None = None
    """of the network's arithmetic; losses stay in 32 bits"""
    max_rejected: Probability = 0.05
    """share of unreadable files above which the run stops"""
    checkpoint_seconds: PositiveFloat = 60.0
    """time between checkpoints"""
    log: Literal["csv", "tensorboard"] = "csv"
    """metrics.csv always; tensorboard writes its files too"""
    views: Annotated[Views, Field(discriminator="name")] | None = None
    """photo, glyph, or a paper's by name (see docs/views.md); its numbers as --views.KEY"""
    optimizer: Annotated[Optimizer, Field(discriminator="name")] | None = None
    """lars, adamw or sgd; its numbers as --optimizer.KEY"""
    then: Stage = Stage()
    """a second stage: --then.epochs, --then.views.KEY, --then.optimizer.KEY"""


class Launch(Description):
    """What a call to pretrain takes beside the settings; not part of the run."""

    out: Place | None = None
    """the run's folder; else runs/METHOD-N, the next free number"""
    config: Place | None = None
    """YAML file of settings; flags win over it"""
    overwrite: bool = False
    """replace the run that stands at --out"""
    rescan: bool = False
    """list the folder anew"""
    dry_run: bool = False
    """print the settings and the estimate, write nothing"""
    debug: bool = False
    """show the traceback of an error"""


class Layer(NamedTuple):
    """Settings from one door: a nested mapping, and how a dotted key is spelt there."""

    values: dict[str, Any]
    door: Literal["flags", "file", "call"]
    file: str = ""
    mistakes: tuple[str, ...] = ()
    """what could not be read at all"""

    def readable(self) -> Self:
        """The layer itself.

        Raises:
            UserError: something could not be read.
        """
        if self.mistakes:
            raise UserError(*self.mistakes)
        return self

    def spell(self, key: str) -> str:
        """A key as the user typed it: `--batch-size`, `batch_size in mine.yaml` or `batch_size`."""
        key = brief(key)
        if self.door == "flags":
            return f"--{key.replace('_', '-') if '.' not in key else key}"
        return f"{key} in {brief(self.file)}" if self.door == "file" else key


def layer_of_flags(arguments: Sequence[str], positionals: Sequence[str], *schemas: type[BaseModel]) -> Layer:
    """Read `IMAGES --epochs 3 --optimizer.lr 0.1` into a layer; values stay text, the checker converts them.

    More bare words than `positionals`, and options without a value, are among the layer's mistakes.
    """
    flat: dict[str, Any] = {}
    words: list[str] = []
    mistakes: list[str] = []
    fields = [pair for schema in schemas for pair in schema.model_fields.items()]
    known, switches = {name for name, _ in fields}, {name for name, field in fields if field.annotation is bool}
    waiting = list(arguments)
    while waiting:
        token = waiting.pop(0)
        if not token.startswith("--") or token == "--":
            words.append(token)
            continue
        name, given, value = token[2:].partition("=")
        key = name if "." in name else name.replace("-", "_")
        if given:
            flat[key] = value
        elif key in switches:
            flat[key] = True
        elif waiting and not waiting[0].startswith("--"):
            flat[key] = waiting.pop(0)
        elif key.partition(".")[0] not in known:
            flat[key] = ""  # the checker tells that there is no such option, and which is near
        else:
            mistakes.append(f"{brief(token)} needs a value")
    mistakes += [
        f"{brief(word)!r} is one word too many: {_expected(positionals)}" for word in words[len(positionals) :]
    ]
    flat.update(zip(positionals, words, strict=False))
    return Layer(nest(flat), "flags", mistakes=tuple(mistakes))


def layer_of_file(path: str) -> Layer:
    """Read a YAML file of settings; that it is missing, not YAML or no mapping is among the layer's mistakes."""
    try:
        values = read_mapping(path)
    except UserError as error:
        return Layer({}, "file", path, (f"--config {brief(path)} {error}",))
    return Layer(nest(values), "file", path)


def layer_of_call(values: Mapping[str, Any]) -> Layer:
    """Settings of a Python call; None means not given."""
    given = {key: value for key, value in values.items() if value is not None}
    return Layer(
        nest({key: os.fspath(one) if isinstance(one, os.PathLike) else one for key, one in given.items()}), "call"
    )


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """`{"optimizer.lr": 1, "optimizer": "sgd"}` to `{"optimizer": {"name": "sgd", "lr": 1}}`; bare words are names."""
    nested: dict[str, Any] = {}
    for key, value in sorted(flat.items()):
        section, dot, rest = key.partition(".")
        if not dot and key in SECTIONS:
            if isinstance(value, str):
                value = _named(section, value)
            if value is not None:
                nested[section] = {**nested.get(section, {}), **value} if isinstance(value, Mapping) else value
        elif dot and isinstance(nested.get(section, {}), dict):
            nested.setdefault(section, {})[rest] = value
        else:
            nested[key] = value
    if isinstance(nested.get("then"), Mapping):
        nested["then"] = nest(nested["then"])
    return _write_out_family(_hoist_classes(nested))


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Later layers win; a section whose name changes starts afresh, so AdamW never inherits LARS's rate."""
    merged: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            old = merged.get(key)
            if isinstance(value, Mapping) and isinstance(old, dict) and value.get("name") in (None, old.get("name")):
                merged[key] = merge(old, value) if key == "then" else {**old, **value}
            elif isinstance(value, Mapping) and key in SECTIONS:
                merged[key] = dict(value)
            elif value is not None:
                merged[key] = value
    return merged


def common_mistakes(layer: Layer, methods: Sequence[str]) -> list[str]:
    """Check everything that needs no method's file: common settings, names of sections, views and optimisers."""
    fields = {**Settings.model_fields, **Launch.model_fields}
    mistakes = mistakes_in(layer.values, fields, layer.spell, also=SECTIONS)
    if layer.door != "file" and {"epochs", "minutes"} <= set(layer.values):
        mistakes.append(f"{layer.spell('epochs')} and {layer.spell('minutes')} both say how long; give one of them")
    for section, table in (("method", methods), ("backbone", None), ("views", VIEWS), ("optimizer", OPTIMIZERS)):
        given = layer.values.get(section)
        name = given.get("name") if isinstance(given, Mapping) else None
        if (given is not None and not isinstance(given, Mapping)) or not isinstance(name, str | None):
            mistakes.append(f"{layer.spell(section)} is {brief(given)}; give a name or a mapping with `name`")
        elif (
            table is not None
            and name is not None
            and name not in table
            and not (section == "method" and str(name).endswith(".py"))
        ):
            names = [*table, *(VIEW_FAMILIES if section == "views" else ())]
            near = nearest(name, names)
            mistakes.append(f"{layer.spell(section)} {brief(name)!r} is unknown; there are {', '.join(names)}{near}")
        elif given is not None and isinstance(table, Mapping):
            allowed = [table[name]] if name else list(table.values())
            title = f"the {name} {section}" if name else f"any {section}"
            known = {key: field for schema in allowed for key, field in schema.model_fields.items()}
            mistakes += mistakes_in(given, known, layer.spell, section=section, title=title)
    return [*mistakes, *_stage_mistakes(layer)]


def _stage_mistakes(layer: Layer) -> list[str]:
    """Check what is given of a second stage; the parts that stand for sections, against any of their schemas."""
    given = layer.values.get("then")
    if given is None:
        return []
    if not isinstance(given, Mapping):
        return [f"{layer.spell('then')} is {brief(given)}; give {layer.spell('then.epochs')}, 0 for no second stage"]
    mistakes = mistakes_in(given, Stage.model_fields, layer.spell, section="then", title="a second stage")
    for section, table in (("views", VIEWS), ("optimizer", OPTIMIZERS)):
        part, where = given.get(section), f"then.{section}"
        if not isinstance(part, Mapping):
            continue
        name = part.get("name")
        if name is not None and name not in table:
            mistakes.append(f"{layer.spell(where)} {brief(name)!r} is unknown; there are {', '.join(table)}")
            continue
        allowed = table.values() if name is None else [table[name]]
        known = {key: field for schema in allowed for key, field in schema.model_fields.items()}
        mistakes += mistakes_in(part, known, layer.spell, section=where, title=f"any {section}", also=("name",))
    return mistakes


def render(settings: Mapping[str, Any]) -> str:
    """Settings as the text of run.yaml."""
    return yaml.safe_dump(plain(settings), sort_keys=False, allow_unicode=True, width=120)


def _named(section: str, word: str) -> dict[str, Any]:
    name, recipe = split_name(word) if section == "method" else (word, "")
    return {"name": name} | ({"recipe": recipe} if recipe else {})


def _hoist_classes(nested: dict[str, Any]) -> dict[str, Any]:
    """`method.classes` is another spelling of `classes`: one fact, one place."""
    method = nested.get("method")
    if isinstance(method, dict) and "classes" in method:
        nested["method"] = {key: value for key, value in method.items() if key != "classes"}
        nested.setdefault("classes", method["classes"])
    return nested


def _write_out_family(nested: dict[str, Any]) -> dict[str, Any]:
    """`views: byol` is another spelling of `photo` with all numbers of that family; what is given beside it wins."""
    views = nested.get("views")
    family = VIEW_FAMILIES.get(str(views.get("name"))) if isinstance(views, dict) else None
    if isinstance(views, dict) and family is not None:
        nested["views"] = {**family.model_dump(), **{key: value for key, value in views.items() if key != "name"}}
    return nested


def _expected(positionals: Sequence[str]) -> str:
    return (
        f"expected {' '.join(word.upper() for word in positionals)} and options" if positionals else "expected options"
    )

"""The tree of settings, and the one checker of flags, YAML files and Python calls.

Each of the three gives a nested mapping (a `Layer`) that is checked against the same schema, and all errors are
reported together with the names as they were typed. Knows no method: their schemas are passed in.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Self

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from gemel.errors import UserError, brief, unknown
from gemel.settings.config_file import read_mapping
from gemel.settings.recipes import OPTIMIZERS, VIEWS, PhotoViews, Stage, split_name
from gemel.settings.run_settings import Launch, Settings
from gemel.settings.schema import is_list, is_switch, mistakes_in, plain
from gemel.settings.view_presets import VIEW_FAMILIES

Pairs = Iterable[tuple[str, Any]]


class Section(NamedTuple):
    """The rules of a section, `SECTION: {name: ..., key: ...}`."""

    schemas: Mapping[str, type[BaseModel]] = {}
    """of its options, by name; empty: names and options are those of files that bring torch"""
    beside: tuple[str, ...] = ("name",)
    """keys that are not options"""
    common: tuple[str, ...] = ()
    """options that are common settings too, and kept there: one fact, one place"""
    named: bool = True
    """a bare word instead of the mapping is its name"""


_VIEWS, _OPTIMIZER = Section({**VIEWS, **dict.fromkeys(VIEW_FAMILIES, PhotoViews)}), Section(OPTIMIZERS)
SECTIONS = {
    "method": Section(beside=("name", "recipe"), common=("classes",)),
    "backbone": Section(),
    "views": _VIEWS,
    "optimizer": _OPTIMIZER,
    "then": Section({"second": Stage}, beside=("views", "optimizer"), named=False),
    "then.views": _VIEWS,
    "then.optimizer": _OPTIMIZER,
}
"""the one table of rules, by dotted key"""

_YES_NO = ("yes", "no", "true", "false", "on", "off")
_SWITCHES = {
    f"{name}.{key}"
    for name, rule in SECTIONS.items()
    for schema in rule.schemas.values()
    for key, field in schema.model_fields.items()
    if is_switch(field)
}


class Layer(NamedTuple):
    """Settings from one source: a nested mapping, and how a dotted key is spelt there."""

    values: dict[str, Any]
    door: Literal["flags", "file", "call"]
    file: str = ""
    mistakes: tuple[str, ...] = ()
    """what could not be read at all"""

    def readable(self) -> Self:
        """Return the layer itself; raises UserError if something could not be read."""
        if self.mistakes:
            raise UserError(*self.mistakes)
        return self

    def spell(self, key: str) -> str:
        """Return a key as the user typed it: `--batch-size`, `batch_size in mine.yaml` or `batch_size`."""
        key = brief(key)
        if self.door == "flags":
            return f"--{key if '.' in key else key.replace('_', '-')}"
        return f"{key} in {brief(self.file)}" if self.door == "file" else key


def layer_of_flags(arguments: Sequence[str], positionals: Sequence[str], *schemas: type[BaseModel]) -> Layer:
    """Read `IMAGES --epochs 3 --optimizer.lr 0.1 --overwrite --no-rescan`; values stay text, the checker converts them.

    Args:
        arguments: the words; none after `--` is a flag.
        positionals: keys of the bare words; a last key like `runs...` takes all that are left.
        schemas: tell switches, which need no value, and lists, whose flag is repeated for each value; where Settings
            is one of them, words for sections stand for mappings.
    """
    fields = {name: field for schema in schemas for name, field in schema.model_fields.items()}
    pairs, words, mistakes = _flags(arguments, fields)
    for key in [name for name, field in fields.items() if is_list(field)]:
        values = [value for name, value in pairs if name == key]
        pairs = [pair for pair in pairs if pair[0] != key] + [(key, values)] * bool(values)
    if positionals and positionals[-1].endswith("..."):
        first = len(positionals) - 1
        words = words[:first] + [words[first:]] * bool(words[first:])
    usage = f"expected {' '.join(map(str.upper, positionals))}{' and ' * bool(positionals)}options"
    mistakes += [f"{brief(word)!r} is one word too many: {usage}" for word in words[len(positionals) :]]
    pairs += [(key.removesuffix("..."), word) for key, word in zip(positionals, words, strict=False)]
    return _layer(pairs, "flags", mistakes=mistakes, sections=SECTIONS if Settings in schemas else {})


def _flags(
    arguments: Sequence[str], fields: Mapping[str, FieldInfo]
) -> tuple[list[tuple[str, Any]], list[Any], list[str]]:
    """Return keys and values, bare words, and mistakes."""
    switches = {name for name, field in fields.items() if is_switch(field)} | _SWITCHES
    pairs: list[tuple[str, Any]] = []
    words: list[Any] = []
    mistakes: list[str] = []
    waiting = list(arguments)
    while waiting:
        token = waiting.pop(0)
        name, given, value = token[2:].partition("=")
        key = name if "." in name else name.replace("-", "_")
        if token == "--":
            words, waiting = words + waiting, []
        elif not token.startswith("--"):
            words.append(token)
        elif given:
            pairs.append((key, value))
        elif key not in fields and key[:3] in ("no_", "no-") and ("." in key or key[3:] in fields):
            pairs.append((key[3:], "no"))
        elif waiting and (waiting[0].lower() in _YES_NO if key in switches else not waiting[0].startswith("--")):
            pairs.append((key, waiting.pop(0)))
        elif key in fields and key not in switches:
            mistakes.append(f"{brief(token)} needs a value")
        else:
            pairs.append((key, True))
    return pairs, words, mistakes


def layer_of_file(path: str) -> Layer:
    """Read a YAML file of settings; that it is missing, not YAML or no mapping is among the layer's mistakes."""
    try:
        return _layer(read_mapping(path).items(), "file", path)
    except UserError as error:
        return Layer({}, "file", path, (f"--config {brief(path)} {error}",))


def layer_of_call(values: Mapping[str, Any]) -> Layer:
    """Return the settings of a Python call; None means not given."""
    given = ((key, value) for key, value in values.items() if value is not None)
    return _layer(((key, os.fspath(one) if isinstance(one, os.PathLike) else one) for key, one in given), "call")


def _layer(
    pairs: Pairs, door: Any, file: str = "", mistakes: Iterable[str] = (), sections: Mapping[str, Section] = SECTIONS
) -> Layer:
    twice: list[tuple[str, Any, Any]] = []
    layer = Layer(nest(pairs, twice, sections), door, file)
    told = (f"{layer.spell(key)} is given twice: {brief(one)} and {brief(two)}" for key, one, two in twice)
    return layer._replace(mistakes=(*mistakes, *told))


def nest(
    pairs: Mapping[str, Any] | Pairs,
    twice: list[tuple[str, Any, Any]] | None = None,
    sections: Mapping[str, Section] = SECTIONS,
) -> dict[str, Any]:
    """Return `{"optimizer.lr": 1, "optimizer": "sgd"}` as `{"optimizer": {"lr": 1, "name": "sgd"}}`.

    Args:
        pairs: dotted keys or nested mappings, and values.
        twice: takes the key, the first and the second value of what is given twice; the first one stays.
        sections: their rules; without them every key stays as it is.
    """
    nested: dict[str, Any] = {}
    for path, value in _paths(pairs.items() if isinstance(pairs, Mapping) else pairs, sections):
        inner: Any = nested
        for part in path[:-1]:
            inner = inner.setdefault(part, {}) if isinstance(inner, dict) else inner
        if isinstance(inner, dict) and path[-1] not in inner:
            inner[path[-1]] = value
        elif twice is not None:
            twice.append((".".join(path), inner[path[-1]] if isinstance(inner, dict) else inner, value))
    return nested


def _paths(
    pairs: Iterable[tuple[Any, Any]], sections: Mapping[str, Section] = SECTIONS, below: str = ""
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the path of every value, other spellings written out: dotted keys, bare names, options kept elsewhere."""
    for key, value in pairs:
        head, dot, rest = str(key).partition(".")
        rule = sections.get(below + head)
        if rule is None:
            yield (str(key),), value
            continue
        if dot:
            value = {rest: value}
        elif isinstance(value, str) and rule.named:
            name, recipe = split_name(value) if "recipe" in rule.beside else (value, "")
            value = {"name": name, **({"recipe": recipe} if recipe else {})}
        if isinstance(value, Mapping):
            for path, one in _paths(value.items(), sections, f"{below}{head}."):
                yield path if path[0] in rule.common else (head, *path), one
        elif value is not None:
            yield (head,), value


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Merge layers, of which later ones win; a section whose name changes starts afresh."""
    merged: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            old = merged.get(key)
            if (
                isinstance(value, Mapping)
                and isinstance(old, dict)
                and not _renamed(old.get("name"), value.get("name"))
            ):
                merged[key] = merge(old, value) if key == "then" else {**old, **value}
            elif value is not None:
                merged[key] = dict(value) if isinstance(value, Mapping) else value
    return merged


def _renamed(old: Any, new: Any) -> bool:
    return new is not None and old not in (None, new)


def in_force(base: Mapping[str, Any], layers: Sequence[Layer]) -> tuple[list[Layer], list[tuple[str, str]]]:
    """Leave out the options of a section that a later layer names anew.

    Options without a name belong to the name in force: of a layer below, else of `base`, else the next one given.

    Returns:
        The layers, and the keys that were left out, with the reason.
    """
    kept, dropped = list(layers), list[tuple[str, str]]()
    names = {path[:-1]: value for path, value in _paths(base.items()) if path[-1] == "name"}
    for number, layer in enumerate(layers):
        for (*section, last), value in _paths(layer.values.items()):
            named, key = names.get(tuple(section)), ".".join(section)
            if last != "name" or not section:
                continue
            for place, lower in enumerate(kept[:number] if _renamed(named, value) else ()):
                common = SECTIONS[key].common
                given = {".".join(path): one for path, one in _paths(lower.values.items())}
                lost = [one for one in given if one.rpartition(".")[0] == key or one in common]
                kept[place] = lower._replace(values=nest({one: given[one] for one in given if one not in lost}))
                if lost := [one for one in lost if one != f"{key}.name"]:
                    where = f" in {brief(lower.file)}" if lower.file else ""
                    dropped.append(
                        (", ".join(lost) + where, f"of {brief(named)}; {layer.spell(key)} names {brief(value)}")
                    )
            names[tuple(section)] = value
    return kept, dropped


def written_out(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with a paper's views as `photo` and its numbers; what is given beside their name wins."""
    views, then = settings.get("views"), settings.get("then")
    found = {**settings, "then": written_out(then)} if isinstance(then, Mapping) else dict(settings)
    if isinstance(views, Mapping) and (family := VIEW_FAMILIES.get(str(views.get("name")))):
        found["views"] = {**family.model_dump(), **views, "name": family.name}
    return found


def common_mistakes(layer: Layer, methods: Sequence[str], *more: type[BaseModel]) -> list[str]:
    """List every mistake that needs no method's file: common settings, names of sections, views and optimisers.

    Args:
        layer: settings and options of the call.
        methods: names of those there are.
        more: schemas of further options.
    """
    launch = [pair for schema in (Launch, *more) for pair in schema.model_fields.items()]
    fields = {key: one for key, one in launch if layer.door != "file" or key not in ("config", "dry_run", "debug")}
    mistakes = mistakes_in(layer.values, {**Settings.model_fields, **fields}, layer.spell, also=SECTIONS)
    if layer.door != "file" and {"epochs", "minutes"} <= set(layer.values):
        mistakes.append(f"{layer.spell('epochs')} and {layer.spell('minutes')} both say how long; give one of them")
    for key, rule in SECTIONS.items():
        mistakes += section_mistakes(layer, key, rule, methods if key == "method" else rule.schemas)
    return mistakes


def section_mistakes(layer: Layer, key: str, rule: Section, names: Iterable[str], title: str = "") -> list[str]:
    """List what is wrong with a section of a layer.

    Args:
        layer: may be without the section.
        key: the section's.
        rule: the section's.
        names: that it may have; empty: any.
        title: what the options belong to, for messages.
    """
    given: Any = layer.values
    for part in key.split("."):
        given = given.get(part) if isinstance(given, Mapping) else None
    name = given.get("name") if rule.named and isinstance(given, Mapping) else None
    if not isinstance(given, Mapping | None) or not isinstance(name, str | None):
        epochs = f"{layer.spell('then.epochs')}, 0 for no second stage"
        what = "a name or a mapping with `name`" if rule.named else epochs
        return [f"{layer.spell(key)} is {brief(given)}; give {what}"]
    if name and names and name not in names and not (key == "method" and name.endswith(".py")):
        return [unknown(layer.spell(key), name, names)]
    if not given or not rule.schemas:
        return []
    allowed = [rule.schemas[name]] if name else rule.schemas.values()
    options = {option: field for schema in allowed for option, field in schema.model_fields.items()}
    section = key.rpartition(".")[2] if rule.named else "stage"
    title = title or (f"the {name} {section}" if name else f"any {section}" if rule.named else "a second stage")
    return mistakes_in(given, options, layer.spell, section=key, title=title, also=rule.beside)


def is_yes(value: Any) -> bool:
    """Return whether a switch is on, as flags, YAML or Python give it."""
    return str(value).lower() in ("true", "yes", "on", "1", "t", "y")


def render(settings: Mapping[str, Any]) -> str:
    """Return settings as the text of run.yaml."""
    return yaml.safe_dump(plain(settings), sort_keys=False, allow_unicode=True, width=120)

"""From the user's words to checked settings, images and a folder: errors are reported together, nothing is written."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gemel import backbones, methods
from gemel.data.messages import LABEL_WORDS, WEIGHT_WORDS, in_full
from gemel.data.sources import Source, open_source
from gemel.errors import UserError, brief, system_words
from gemel.runs.folder import Claim, claim
from gemel.settings.schema import schema_of, typed
from gemel.settings.tree import (
    SECTIONS,
    Launch,
    Layer,
    Settings,
    common_mistakes,
    in_force,
    is_yes,
    layer_of_file,
    merge,
    section_mistakes,
    written_out,
)
from gemel.training import trackers


class Choice(NamedTuple):
    """A setting that was chosen, or `dropped` ones, and why."""

    key: str
    value: Any
    reason: str


class Asked(NamedTuple):
    """What the user asked for; gaps are still open."""

    settings: dict[str, Any]
    source: Source
    claim: Claim
    """the run's folder"""
    layers: tuple[Layer, ...] = ()
    """what `settings` were merged from: options without a name belong to what the recipe names"""
    dropped: tuple[Choice, ...] = ()
    """options of a method or another section that a later layer names anew"""


def asked_for(layers: Sequence[Layer]) -> Asked:
    """Check every layer; a typo in a common setting is reported without torch, at once.

    Args:
        layers: flags, or the settings of a call; a file that they name goes below them.

    Raises:
        UserError: with every mistake found.
    """
    named = [str(layer.values["config"]) for layer in layers if layer.values.get("config")]
    files = [name for layer in layers if (name := _method_name(layer.values)).endswith(".py")]
    layers = [*map(layer_of_file, named), *layers]
    known = methods.available()
    mistakes = [line for layer in layers for line in (*layer.mistakes, *common_mistakes(layer, known))]
    for file in files:  # in the words of this call, and not only in a file that it names
        _collect(mistakes, methods.find, file, named=True)
    base = {"method": Settings.model_fields["method"].default}
    layers, dropped = in_force(base, layers)
    given = written_out(merge(base, *(layer.values for layer in layers)))
    if _method_name(given).endswith(".py") and not mistakes:
        _collect(mistakes, methods.find, _method_name(given))
    mistakes += _section_mistakes(layers, given)
    mistakes += _tracker_mistakes(given.get("log"))
    launch = {key: given.pop(key) for key in list(given) if key in Launch.model_fields}
    claimed = source = None
    if all(isinstance(one, str | None) for one in (given.get("images"), given.get("labels"), launch.get("out"))):
        overwrite, rescan = (is_yes(launch.get(key)) for key in ("overwrite", "rescan"))
        inputs = [str(one) for one in map(given.get, ("images", "labels", "weights")) if one is not None]
        stem = Path(_method_name(given) or "run").stem
        claimed = _collect(mistakes, claim, launch.get("out"), stem, overwrite=overwrite, inputs=[*inputs, *named])
        is_default = given.get("images") is None and given.get("labels") is None
        given |= _paths_in_full(given)
        _collect(mistakes, _check_weights, given.get("weights"))
        if not mistakes or not is_default:  # the default images are right, and take seconds to read
            source = _collect(mistakes, open_source, given["images"], labels=given.get("labels"), rescan=rescan)
    if mistakes or source is None or claimed is None:
        raise UserError(*dict.fromkeys(mistakes))
    common = {key: field for key, field in Settings.model_fields.items() if key not in SECTIONS}
    said = tuple(Choice("dropped", *one) for one in dropped)
    return Asked(typed(given, common), source, claimed, tuple(layers), said)


def _paths_in_full(given: Mapping[str, Any]) -> dict[str, Any]:
    """Write paths out: a run is continued, and evaluated, from any working folder."""
    found: dict[str, Any] = {"images": in_full(given.get("images") or "digits")}
    for key, words in (("labels", LABEL_WORDS), ("weights", WEIGHT_WORDS)):
        if isinstance(given.get(key), str) and given[key] not in words:
            found[key] = in_full(given[key])
    method = given["method"]
    if isinstance(method, Mapping) and str(method.get("name")).endswith(".py"):
        found["method"] = {**method, "name": in_full(str(method["name"]))}
    return found


def _check_weights(words: Any) -> None:
    if isinstance(words, str) and words not in WEIGHT_WORDS and not Path(words).exists():
        raise UserError(
            f"--weights {brief(words)} is neither a run nor a file; give one, or {' or '.join(WEIGHT_WORDS)}"
        )


def _tracker_mistakes(words: Any) -> list[str]:
    """List the trackers whose package is not installed; words that name none are complained of elsewhere."""
    names = words.split(",") if isinstance(words, str) else words
    return trackers.missing([str(one).strip() for one in names]) if isinstance(names, list | tuple) else []


def _collect(mistakes: list[str], check: Callable[..., Any], *given: Any, **options: Any) -> Any:
    """Return what the check returns; its mistakes join the others, so that all are reported together."""
    try:
        return check(*given, **options)
    except UserError as error:
        mistakes += error.mistakes
    except OSError as error:
        mistakes.append(system_words(error))
    return None


def _section_mistakes(layers: Sequence[Layer], given: Mapping[str, Any]) -> list[str]:
    """Check the options of the method and of the backbone, which only their own files know."""
    mistakes: list[str] = []
    for section, find in (("method", methods.find), ("backbone", backbones.find)):
        rule = SECTIONS[section]
        asked = [layer for layer in layers if isinstance(layer.values.get(section), Mapping)]
        options = [layer for layer in asked if set(layer.values[section]) - set(rule.beside)]
        name = given[section].get("name") if isinstance(given.get(section), Mapping) else None
        # The file brings torch, seconds: it is imported where there is something to check, and not for a bare name
        # of a method, which the folder's list has answered.
        if name is None or not (options or (asked and section == "backbone")):
            continue
        constructor = _collect(mistakes if section == "backbone" else [], find, str(name))
        if constructor is not None:
            rule = rule._replace(schemas={name: schema_of(constructor)})
            mistakes += [line for one in options for line in section_mistakes(one, section, rule, (), str(name))]
    return mistakes


def _method_name(values: Mapping[str, Any]) -> str:
    method = values.get("method")
    return str(method.get("name") or "") if isinstance(method, Mapping) else ""

"""From the user's words to checked settings, a source and a place: every mistake told at once, nothing written."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gemel import backbones, methods
from gemel.data.messages import LABEL_WORDS, in_full
from gemel.data.sources import Source, open_source
from gemel.errors import UserError, brief, system_words
from gemel.runs.folder import Claim, claim
from gemel.settings.schema import mistakes_in, schema_of, typed
from gemel.settings.tree import SECTIONS, Launch, Layer, Settings, common_mistakes, layer_of_file, merge


class Asked(NamedTuple):
    """What the user asked for; gaps are still open."""

    settings: dict[str, Any]
    source: Source
    claim: Claim
    """the run's folder"""


def asked_for(layers: Sequence[Layer]) -> Asked:
    """Check every layer; a typo in a common setting is answered without torch, in a moment.

    Args:
        layers: flags, or the settings of a call; a file that they name goes below them.

    Raises:
        UserError: with every mistake found.
    """
    named = [str(layer.values["config"]) for layer in layers if layer.values.get("config")]
    layers = [*(layer_of_file(path) for path in named), *layers]
    mistakes = [mistake for layer in layers for mistake in layer.mistakes]
    mistakes += [mistake for layer in layers for mistake in common_mistakes(layer, methods.available())]
    layers = [_of_other_methods_cleared(layer, layers[place + 1 :]) for place, layer in enumerate(layers)]
    given = merge({"method": {"name": "twist"}}, *(layer.values for layer in layers))
    mistakes += _section_mistakes(layers, given)
    launch = {key: given.pop(key) for key in list(given) if key in Launch.model_fields}
    words = {key: given.get(key) for key in ("images", "labels")} | {key: launch.get(key) for key in ("out",)}
    wrong = [key for key, word in words.items() if not isinstance(word, str | None)]
    claimed = source = None
    if not wrong:
        overwrite, rescan = (is_true(launch.get(key)) for key in ("overwrite", "rescan"))
        claimed = _collect(mistakes, claim, words["out"], _stem(given), overwrite=overwrite)
        given |= _paths_in_full(given)
        _collect(mistakes, _check_weights, given.get("weights"))
        source = _collect(mistakes, open_source, given["images"], labels=given.get("labels"), rescan=rescan)
    if mistakes or source is None or claimed is None:
        raise UserError(*dict.fromkeys(mistakes))
    return Asked(
        typed(given, {key: field for key, field in Settings.model_fields.items() if key not in SECTIONS}),
        source,
        claimed,
    )


def _paths_in_full(given: Mapping[str, Any]) -> dict[str, Any]:
    """Paths are written out: a run goes on, and is evaluated, from any working folder."""
    found: dict[str, Any] = {"images": in_full(given.get("images") or "digits")}
    for key, words in (("labels", LABEL_WORDS), ("weights", ("timm",))):
        if isinstance(given.get(key), str) and given[key] not in words:
            found[key] = in_full(given[key])
    method = given["method"]
    if isinstance(method, Mapping) and str(method.get("name")).endswith(".py"):
        found["method"] = {**method, "name": in_full(str(method["name"]))}
    return found


def _check_weights(words: Any) -> None:
    if isinstance(words, str) and words != "timm" and not Path(words).exists():
        raise UserError(f"--weights {brief(words)} is neither a run nor a file; give one, or timm")


def is_true(value: Any) -> bool:
    """A switch as flags, YAML or Python give it."""
    return str(value).lower() in ("true", "yes", "1", "on")


def _of_other_methods_cleared(layer: Layer, later: Sequence[Layer]) -> Layer:
    """A layer without the options of a method or backbone that a later layer names anew, nor its classes."""
    values = dict(layer.values)
    for section in ("method", "backbone"):
        own = values.get(section)
        names = [one.values[section].get("name") for one in later if isinstance(one.values.get(section), Mapping)]
        renamed = [name for name in names if name is not None]
        if renamed and isinstance(own, Mapping) and own.get("name") != renamed[-1]:
            del values[section]
            if section == "method":
                values.pop("classes", None)
    return layer._replace(values=values)


def _collect(mistakes: list[str], check: Callable[..., Any], *given: Any, **options: Any) -> Any:
    """What the check returns; its mistakes join the others, so that all are told at once."""
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
        asked = [layer for layer in layers if isinstance(layer.values.get(section), Mapping)]
        options = [layer for layer in asked if set(layer.values[section]) - {"name", "recipe"}]
        name = given[section].get("name") if isinstance(given.get(section), Mapping) else None
        # The file brings torch, seconds: it is imported where there is something to check, and not for a bare name
        # of a method, which the folder's list has answered.
        if name is None or not (options or (asked and section == "backbone")):
            continue
        constructor = _collect(mistakes if section == "backbone" else [], find, str(name))
        if constructor is not None:
            fields = schema_of(constructor).model_fields
            for layer in options:
                mistakes += mistakes_in(
                    layer.values[section],
                    fields,
                    layer.spell,
                    section=section,
                    title=name,
                    also=("name", "recipe") if section == "method" else ("name",),
                )
    return mistakes


def _stem(given: Mapping[str, Any]) -> str:
    method = given["method"]
    return Path(str(method.get("name", "run"))).stem if isinstance(method, Mapping) else "run"

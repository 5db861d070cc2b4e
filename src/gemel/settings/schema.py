"""A schema from a signature, and the check of values against it, in the words of the user who typed them."""

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import cache, wraps
from types import UnionType
from typing import Annotated, Any, ParamSpec, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model
from pydantic.fields import FieldInfo

from gemel.errors import UserError, brief

P = ParamSpec("P")
R = TypeVar("R")

Spell = Callable[[str], str]
"""from a dotted key to how the user typed it"""


@cache
def schema_of(function: Callable[..., Any], *, positional: bool = False) -> type[BaseModel]:
    """Return the schema of a signature: ranges from annotations, defaults, help from the docstring's `Args:`.

    Args:
        function: or a constructor; its keyword-only arguments are options.
        positional: the other arguments, but `**options`, are too.
    """
    helps = argument_helps(function)
    fields: dict[str, Any] = {}
    # not eval_str: what a function returns may be a name for type checkers alone
    names = vars(sys.modules[getattr(function, "func", function).__module__])
    for name, one in inspect.signature(function).parameters.items():
        if one.kind is one.KEYWORD_ONLY or (positional and one.kind is one.POSITIONAL_OR_KEYWORD):
            annotation = eval(one.annotation, names) if isinstance(one.annotation, str) else one.annotation
            default = ... if one.default is one.empty else one.default
            fields[name] = (annotation, Field(default, description=helps.get(name, "")))
    config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)
    return create_model(getattr(function, "__name__", "options"), __config__=config, **fields)


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Check the keyword arguments of every call as flags and files are checked; raises UserError with every mistake."""

    @wraps(function)
    def call(*values: P.args, **options: P.kwargs) -> R:
        fields, known = schema_of(function).model_fields, inspect.signature(function).parameters
        wrong = mistakes_in(options, fields, str, title=function.__name__, also=known.keys() - fields.keys())
        if wrong:
            raise UserError(*wrong)
        options.update(typed(options, fields))
        return function(*values, **options)

    return call


def mistakes_in(
    values: Any,
    fields: Mapping[str, FieldInfo],
    spell: Spell,
    *,
    section: str = "",
    title: str = "gemel",
    also: Iterable[str] = (),
) -> list[str]:
    """List what is wrong with the values that are given.

    Args:
        values: names and values; anything but a mapping is a mistake.
        fields: what is allowed, of one or several schemas.
        spell: how a dotted key was typed.
        section: the key that the values stand below.
        title: what the keys belong to, for messages.
        also: further allowed keys, which are checked elsewhere.
    """
    if not isinstance(values, Mapping):
        return [f"{spell(section)} is {brief(values)}; give a name or a mapping with `name`"]
    mistakes: list[str] = []
    for key, value in values.items():
        dotted = f"{section}.{key}" if section else str(key)
        if key in fields and key not in also:
            mistakes += _value_mistakes(spell(dotted), fields[key], value)
        elif key not in also:
            mistakes.append(_unknown(spell, dotted, {*fields, *also}, title))
    return mistakes


def convert(schema: type[BaseModel], values: Mapping[str, Any], title: str) -> dict[str, Any]:
    """Return values in the schema's types, defaults filled in.

    Raises:
        UserError: with one line for each mistake.
    """
    fields = schema.model_fields
    readable = {key: _readable(fields[key], value) if key in fields else value for key, value in values.items()}
    try:
        return schema.model_validate(readable).model_dump()
    except ValidationError as error:
        raise UserError(*(_message(title, one["loc"], one) for one in error.errors())) from error


def typed(values: Mapping[str, Any], fields: Mapping[str, FieldInfo]) -> dict[str, Any]:
    """Return values, known to be right, in their fields' types; other keys as they are."""
    return {
        key: _adapter(fields[key]).validate_python(_readable(fields[key], value)) if key in fields else value
        for key, value in values.items()
    }


def describe(schema: type[BaseModel], prefix: str = "") -> list[tuple[str, str, str, str]]:
    """Return rows (key, type and range, default, meaning) of a schema's fields."""
    rows: list[tuple[str, str, str, str]] = []
    for name, field in schema.model_fields.items():
        if isinstance(field.default, BaseModel):
            rows += describe(type(field.default), f"{prefix}{name}.")
        elif name != "name":
            shown = field.default.get("name", "") if isinstance(field.default, Mapping) else field.default
            default = "" if field.is_required() or shown is None else _default_text(plain(shown))
            rows.append((f"{prefix}{name}", range_of(field), default, (field.description or "").strip()))
    return rows


def _default_text(value: Any) -> str:
    """Return a default as it would be typed, where it is a list of words."""
    are_words = isinstance(value, list) and value and all(isinstance(one, str) for one in value)
    return ",".join(value) if are_words else str(value)


def argument_helps(function: Callable[..., Any]) -> dict[str, str]:
    """Return the meaning of each argument, from the lines below `Args:` of the docstring."""
    document = inspect.getdoc(getattr(function, "func", function)) or ""
    _, _, rows = document.partition("Args:\n")
    found = re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", rows.partition("\n\n")[0], re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


def plain(value: Any) -> Any:
    """Return tuples as lists and models as mappings, so that YAML and JSON need no tags."""
    if isinstance(value, BaseModel):
        return plain(value.model_dump())
    if isinstance(value, Mapping):
        named = {"name": value["name"]} if "name" in value else {}  # what a section is comes first
        return {str(key): plain(one) for key, one in (named | dict(value)).items()}
    return [plain(one) for one in value] if isinstance(value, list | tuple) else value


def kinds_of(annotation: Any) -> set[Any]:
    """Return the plain types that an annotation allows: `Annotated[float, ...] | None` gives float and None's type."""
    if get_origin(annotation) is Annotated:
        return kinds_of(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return {kind for one in get_args(annotation) for kind in kinds_of(one)}
    return {get_origin(annotation) or annotation}


def is_switch(field: FieldInfo) -> bool:
    """Return whether a field is yes or no, and a flag needs no value."""
    return kinds_of(field.annotation) - {type(None)} == {bool}


def is_list(field: FieldInfo) -> bool:
    """Return whether a flag is given once for each value of a list; those of a tuple stand in one word: `0.1,2`."""
    kinds = kinds_of(field.annotation)
    return bool(kinds & {list, Sequence}) and str not in kinds


def range_of(field: FieldInfo) -> str:
    """Return type and range of a field in few words: `number > 0`, `photo | glyph`."""
    return _range_of_schema(_adapter(field).json_schema())


def _unknown(spell: Spell, dotted: str, known: Iterable[str], title: str) -> str:
    section, _, key = dotted.rpartition(".")
    if "accum" in key.lower():
        return (
            f"{spell(dotted)} is refused: the losses are made of the whole batch's statistics, so gradients added up "
            f"over parts of a batch are those of another loss; for a large batch take more processes, a smaller "
            f"{spell('image_size')} or {spell('precision')} bf16"
        )
    # a longer key is near nothing, and costs its square
    near = get_close_matches(key[:100].replace("-", "_"), sorted(known), n=1, cutoff=0.5)
    near = [spell(f"{section}.{one}" if section else one) for one in near]
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known))}"
    return f"{spell(dotted)} is not an option of {title}; {hint}"


def _adapter(field: FieldInfo) -> TypeAdapter[Any]:
    annotation: Any = field.annotation
    is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    config = None if is_model else ConfigDict(allow_inf_nan=False, arbitrary_types_allowed=True)
    annotation = Annotated[annotation, field]
    return TypeAdapter(annotation, config=config)


def _value_mistakes(name: str, field: FieldInfo, value: Any) -> list[str]:
    kinds = kinds_of(field.annotation)
    if isinstance(value, bool) and not kinds & {bool, Any}:  # a flag without a value, or YAML's yes for a number
        return [f"{name} needs a value ({range_of(field)})"]
    try:
        _adapter(field).validate_python(_readable(field, value))
    except ValidationError as error:
        first, parts = error.errors()[0], _adapter(field).json_schema().get("prefixItems", ())
        if parts and first["type"] in ("missing", "too_long"):
            return [f"{name} takes {len(parts)} values ({range_of(field)}), not {brief(value)}"]
        return [_message(name, (), first)]
    return []


def _readable(field: FieldInfo, value: Any) -> Any:
    """Return the text of a flag in a form that the type understands: `0.1,2` as a list, `none` as None."""
    kinds = kinds_of(field.annotation)
    if not isinstance(value, str):
        return value
    if type(None) in kinds and str not in kinds and value.lower() in ("none", "null"):
        return None
    if tuple in kinds:
        return [part.strip() for part in value.strip("[]()").split(",") if part.strip()]
    return [value] if is_list(field) else value


def _message(name: str, location: tuple[int | str, ...], error: Any) -> str:
    """Return pydantic's words in ours: `--epochs must be greater than 0, not -5`."""
    where = ".".join(str(part) for part in (name, *location) if part != "")
    text = re.sub(r"^Value error, ", "", re.sub(r"^Input should be", "must be", error["msg"]))
    text = re.sub(r"^must be a valid (\w+), unable to .*$", r"must be a valid \1", text)
    if text.startswith(f"{where} "):  # a check of its own that names the option itself
        return text
    return f"{where} {text}, not {brief(error['input'])}" if text.startswith("must") else f"{where}: {text}"


def _range_of_schema(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        shown = [_range_of_schema(one) for one in schema["anyOf"] if one.get("type") != "null"]
        return " | ".join(dict.fromkeys(shown))
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    if "prefixItems" in schema:
        return ", ".join(_range_of_schema(one) for one in schema["prefixItems"])
    if schema.get("type") == "array":
        return f"list of {_range_of_schema(schema.get('items', {}))}"
    kinds = {"integer": "integer", "number": "number", "string": "text", "boolean": "yes/no", "object": "mapping"}
    signs = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    bounds = " and ".join(f"{sign} {schema[key]:g}" for key, sign in signs.items() if key in schema)
    return f"{kinds.get(str(schema.get('type')), 'name')} {bounds}".strip()

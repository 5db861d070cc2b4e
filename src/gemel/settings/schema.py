"""A schema from a constructor, and the checking of values against it, in the words of the user who typed them."""

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model
from pydantic.fields import FieldInfo

from gemel.errors import UserError, brief

Spell = Callable[[str], str]
"""from a dotted key to how the user typed it"""


def schema_of(constructor: Callable[..., Any]) -> type[BaseModel]:
    """The constructor is the schema: its keyword-only arguments, with ranges from annotations, help from `Args:`."""
    helps = _argument_helps(inspect.getdoc(getattr(constructor, "func", constructor)) or "")
    fields: dict[str, Any] = {}
    for name, parameter in inspect.signature(constructor, eval_str=True).parameters.items():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            default = ... if parameter.default is inspect.Parameter.empty else parameter.default
            fields[name] = (parameter.annotation, Field(default, description=helps.get(name, "")))
    config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    name = getattr(constructor, "__name__", "options")
    return create_model(name, __config__=config, **fields)


def mistakes_in(
    values: Any,
    fields: Mapping[str, FieldInfo],
    spell: Spell,
    *,
    section: str = "",
    title: str = "gemel",
    also: Iterable[str] = (),
) -> list[str]:
    """Check the values that are given, against the fields of one or several schemas.

    Args:
        values: a mapping of names to values (anything else is a mistake).
        fields: what is allowed.
        spell: how a dotted key was typed.
        section: the key that the values stand below.
        title: what the keys belong to, for messages.
        also: further allowed keys that are checked elsewhere.
    """
    if not isinstance(values, Mapping):
        return [f"{spell(section)} is {brief(values)}; give a name or a mapping with `name`"]
    mistakes: list[str] = []
    for key, value in values.items():
        dotted = f"{section}.{key}" if section else str(key)
        if key in also:
            continue
        if key not in fields:
            mistakes.append(_unknown(spell, dotted, list(dict.fromkeys([*fields, *also])), section, title))
        else:
            mistakes += _value_mistakes(spell(dotted), fields[key], value)
    return mistakes


def convert(schema: type[BaseModel], values: Mapping[str, Any], title: str) -> dict[str, Any]:
    """Values in the schema's types, defaults filled in.

    Raises:
        UserError: with one line for each mistake.
    """
    readable = {
        key: _readable(schema.model_fields[key], value) if key in schema.model_fields else value
        for key, value in values.items()
    }
    try:
        return schema.model_validate(readable).model_dump()
    except ValidationError as error:
        raise UserError(*(_message(title, one["loc"], one) for one in error.errors())) from error


def describe(schema: type[BaseModel], prefix: str = "") -> list[tuple[str, str, str, str]]:
    """Rows (key, type and range, default, meaning) of a schema's fields."""
    rows: list[tuple[str, str, str, str]] = []
    for name, field in schema.model_fields.items():
        if name == "name":
            continue
        if isinstance(field.default, BaseModel):
            rows += describe(type(field.default), f"{prefix}{name}.")
            continue
        default = "" if field.is_required() or field.default is None else str(plain(field.default))
        if isinstance(field.default, Mapping) and set(field.default) == {"name"}:
            default = str(field.default["name"])
        rows.append((f"{prefix}{name}", _range_of(field), default, (field.description or "").strip()))
    return rows


def _unknown(spell: Spell, dotted: str, known: Sequence[str], section: str, title: str) -> str:
    key = dotted.rsplit(".", 1)[-1][:100]  # a longer one is near nothing, and costs its square
    if "accum" in key.lower():
        return (
            f"{spell(dotted)} is refused: the losses are made of the whole batch's statistics, so gradients added up "
            f"over parts of a batch are those of another loss; for a large batch take more processes, a smaller "
            f"{spell('image_size')} or {spell('precision')} bf16"
        )
    near = get_close_matches(key.replace("-", "_"), known, n=1, cutoff=0.5)
    dotted_near = f"{section}.{near[0]}" if near and section else near[0] if near else ""
    hint = f"; did you mean {spell(dotted_near)}?" if near else f"; there are {', '.join(sorted(known))}"
    return f"{spell(dotted)} is not an option of {title}{hint}"


def nearest(name: object, names: Iterable[str]) -> str:
    """`; did you mean X?` where a known name is near, else nothing."""
    near = get_close_matches(str(name)[:100], list(names), n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""


def _adapter(field: FieldInfo) -> TypeAdapter[Any]:
    annotation: Any = field.annotation
    for part in field.metadata:
        annotation = Annotated[annotation, part]
    return TypeAdapter(annotation, config=None if _is_model(annotation) else ConfigDict(allow_inf_nan=False))


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _value_mistakes(name: str, field: FieldInfo, value: Any) -> list[str]:
    try:
        _adapter(field).validate_python(_readable(field, value))
    except ValidationError as error:
        return list(dict.fromkeys(_message(name, (), one) for one in error.errors()[:1]))
    return []


def _readable(field: FieldInfo, value: Any) -> Any:
    """Text of a flag in a form that the type understands: `0.1,2` as a list, `none` as None."""
    if not isinstance(value, str):
        return value
    kinds = _kinds(field.annotation)
    if type(None) in kinds and str not in kinds and value.lower() in ("none", "null"):
        return None
    if tuple in kinds or list in kinds:
        return [part.strip() for part in value.strip("[]()").split(",") if part.strip()]
    return value


def _kinds(annotation: Any) -> set[Any]:
    """The plain types that an annotation allows: `Annotated[float, ...] | None` gives float and None's type."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _kinds(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return {kind for one in get_args(annotation) for kind in _kinds(one)}
    return {origin or annotation}


def typed(values: Mapping[str, Any], fields: Mapping[str, FieldInfo]) -> dict[str, Any]:
    """Values, known to be right, in their fields' types; other keys as they are."""
    return {
        key: _adapter(fields[key]).validate_python(_readable(fields[key], value)) if key in fields else value
        for key, value in values.items()
    }


def _message(name: str, location: tuple[int | str, ...], error: Any) -> str:
    """pydantic's words in ours: `--epochs must be greater than 0, not -5`."""
    where = ".".join((name, *(str(part) for part in location)))
    text: str = error["msg"]
    text = re.sub(r"^Input should be", "must be", text)
    text = re.sub(r"^Value error, ", "", text)
    text = re.sub(r"^must be a valid (\w+), unable to parse string as an? \w+$", r"must be a valid \1", text)
    return f"{where} {text}, not {brief(error['input'])}" if text.startswith("must") else f"{where}: {text}"


def _argument_helps(document: str) -> dict[str, str]:
    """`name: help` lines below `Args:`, continuation lines joined."""
    match = re.search(r"Args:\n((?:[ \t]+.*\n?|\n)+)", document)
    helps: dict[str, str] = {}
    name = ""
    for line in (match.group(1) if match else "").splitlines():
        found = re.match(r"\s{4}(\w+): (.*)", line)
        if found and not line.startswith(" " * 5):
            name = found.group(1)
            helps[name] = found.group(2)
        elif name and line.strip():
            helps[name] += " " + line.strip()
    return helps


def _range_of(field: FieldInfo) -> str:
    """Type and range of a field in few words: `number > 0`, `photo | glyph`."""
    return _range_of_schema(_adapter(field).json_schema())


def _range_of_schema(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " | ".join(_range_of_schema(one) for one in schema["anyOf"] if one.get("type") != "null")
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


def plain(value: Any) -> Any:
    """Tuples as lists, models as mappings, so that YAML and JSON need no tags."""
    if isinstance(value, BaseModel):
        return plain(value.model_dump())
    if isinstance(value, Mapping):
        named = {"name": value["name"]} if "name" in value else {}  # what a section is comes first
        return {str(key): plain(one) for key, one in (named | dict(value)).items()}
    return [plain(one) for one in value] if isinstance(value, list | tuple) else value

"""A page for each method, from its class: docstring, equation, terms, advice, recipes and options."""

import inspect
import re
import sys
from pathlib import Path

import yaml
from make import table
from method_figures import figure

from gemel import methods
from gemel.methods.base import Method
from gemel.settings.schema import describe, schema_of

FIGURES = Path(__file__).parent / "figures.yaml"
_EQUATION = re.compile(r"^L(_\w+)? = ")

INDEX = """# How each method works

Every method is one file: a class whose docstring states the loss, and whose constructor is its settings. These pages
are made from the classes. All methods train in the same loop, on the same views, and are evaluated by the same
protocols, so that they can be compared: `gemel pretrain IMAGES --method NAME`.

In the figures a box with a full line learns by gradient, a dashed one is a moving average of the one above it, and a
double bar cuts the gradient.

"""

FIRST = ("twist", "barlow_twins")
"""what gemel is about"""


def navigation() -> list[tuple[str, str]]:
    """Return title and path of each page, the two that gemel is about first."""
    others = [name for name in methods.available() if name not in FIRST]
    return [(_title(methods.find(name)), f"methods/{name}.md") for name in (*FIRST, *others)]


def pages() -> dict[str, str]:
    """Return the pages by path."""
    figures = yaml.safe_load(FIGURES.read_text(encoding="utf-8"))
    found = {f"methods/{name}.md": _page(name, figures.get(name)) for name in methods.available()}
    rows = ["| method | name | classes | what it does |", "|---|---|---|---|"]
    for title, path in navigation():
        name = Path(path).stem
        method = methods.find(name)
        classes = "yes" if _has_classes(method) else "no"
        rows.append(f"| [{title}]({name}.md) | `{name}` | {classes} | {_paragraphs(method)[0]} |")
    found["methods/index.md"] = INDEX + "\n".join(rows) + "\n"
    return found


def _page(name: str, facts: dict | None) -> str:
    method = methods.find(name)
    first, *rest = _paragraphs(method)
    lines = [f"# {_title(method)}", "", first, ""]
    if facts:
        lines += [figure(facts), ""]
    for paragraph in rest:
        is_equation = _EQUATION.match(paragraph)
        shown = ["``` { .text .equation }", paragraph, "```"] if is_equation else [" ".join(paragraph.split())]
        lines += [*shown, ""]
    discovers = "It discovers classes." if _has_classes(method) else "It learns features, and discovers no classes."
    lines += ["```bash", f"gemel pretrain photos --method {name}", "```", "", discovers, ""]
    if method.terms:
        lines += ["## What metrics.csv shows", "", "| column | how to read it |", "|---|---|"]
        lines += [f"| `{term}` | {meaning} |" for term, meaning in method.terms.items()] + [""]
    if method.advice:
        lines += ["## When the report complains", "", "| finding | to try |", "|---|---|"]
        lines += [f"| {finding} | {advice} |" for finding, advice in method.advice.items()] + [""]
    lines += ["## Options", "", *table(describe(schema_of(method), "method.")), ""]
    lines += ["## Recipes", "", "| recipe | source |", "|---|---|"]
    lines += [f"| `{name}/{recipe}` | {values.source} |" for recipe, values in method.recipes.items()] + [""]
    losses = _losses(method)
    if losses:
        lines += ["## The loss as a function", ""]
        lines += [line for loss in losses for line in (f"::: {loss}", "")]
    return "\n".join(lines)


def _title(method: type[Method]) -> str:
    return method.title or method.__name__


def _has_classes(method: type[Method]) -> bool:
    return method.classify is not Method.classify


def _paragraphs(method: type[Method]) -> list[str]:
    return (inspect.getdoc(method) or "").partition("\nArgs:")[0].strip().split("\n\n")


def _losses(method: type[Method]) -> list[str]:
    """Return the full names of the loss functions that the method's file holds or imports."""
    module = sys.modules[method.__module__]
    found = [one for name, one in vars(module).items() if name.endswith("_loss") and inspect.isfunction(one)]
    return [f"{one.__module__}.{one.__qualname__}" for one in found if not one.__name__.startswith("_")]

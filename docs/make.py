"""Make docs/settings.md from the schemas, and the README's table of methods from their files:  python docs/make.py"""

import inspect
import re
from collections.abc import Sequence
from pathlib import Path

from gemel import methods
from gemel.methods.base import Method
from gemel.reports.tables import Table, markdown
from gemel.settings.recipes import OPTIMIZERS, VIEWS
from gemel.settings.schema import describe, schema_of
from gemel.settings.tree import Launch, Settings

PAGE = Path(__file__).parent / "settings.md"
README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- made by docs/make.py: methods -->", "<!-- end of methods -->"


def page() -> str:
    """The whole page; tests/test_docs.py holds the file against it."""
    sections = [("Common settings", describe(Settings)), ("Of the call, not of the run", describe(Launch))]
    sections += [(f"Method {name}", describe(schema_of(methods.find(name)), "method.")) for name in methods.available()]
    sections += [(f"Views {name}", describe(schema, "views.")) for name, schema in VIEWS.items()]
    sections += [(f"Optimizer {name}", describe(schema, "optimizer.")) for name, schema in OPTIMIZERS.items()]
    lines = [
        "# Settings",
        "",
        "Made by `python docs/make.py`. On the command line `--batch-size 64` or `--optimizer.lr 0.1`, yes/no options",
        "as `--overwrite`, `--no-overwrite` or `--overwrite no`; in YAML and in Python `batch_size: 64` and",
        "`optimizer: {lr: 0.1}`. An empty default means: chosen from the images and the machine, and printed with its",
        "reason. Order: default < recipe < `--config` < flags; within one of them nothing may be given twice.",
        "",
        "A section (`method`, `backbone`, `views`, `optimizer`) has a name and options. Options without a name belong",
        "to the name in force. Where a later layer names another, they are dropped, and a line says so.",
    ]
    for title, rows in sections:
        lines += ["", f"## {title}", "", *table(rows)]
    return "\n".join(lines) + "\n"


def table(rows: Sequence[tuple[str, str, str, str]]) -> list[str]:
    """Return the lines of a Markdown table of a schema's rows."""
    lines = ["| key | values | default | meaning |", "|---|---|---|---|"]
    for key, *cells in rows:
        lines.append(" | ".join([f"| `{key}`", *(cell.replace("|", "\\|") for cell in cells)]) + " |")
    return lines


def map_of_methods() -> str:
    """A row a method: what its docstring begins with, whether it finds classes, how many recipes it has."""
    rows: list[tuple[str, ...]] = []
    for name in methods.available():
        method = methods.find(name)
        line = (inspect.getdoc(method) or "").splitlines()[0]
        line = re.sub(r"\((?:https://arxiv\.org/abs/|arXiv )([\d.]+)\)", r"([\1](https://arxiv.org/abs/\1))", line)
        classes = "yes" if method.classify is not Method.classify else ""
        rows.append((f"`{name}`", line.removesuffix("."), classes, str(len(method.recipes))))
    return markdown(Table("", ("method", "what it does", "classes", "recipes"), tuple(rows)))


def readme(text: str) -> str:
    """The README with its table of methods made anew; tests/test_docs.py holds the file against it."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{map_of_methods()}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    README.write_text(readme(README.read_text(encoding="utf-8")), encoding="utf-8")

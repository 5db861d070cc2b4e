"""Make the tables of docs/settings.md from the schemas:  python docs/make.py"""

from collections.abc import Sequence
from pathlib import Path

from gemel import methods
from gemel.settings.recipes import OPTIMIZERS, VIEWS
from gemel.settings.schema import describe, schema_of
from gemel.settings.tree import Launch, Settings

PAGE = Path(__file__).parent / "settings.md"


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


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

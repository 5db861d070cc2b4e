"""Hooks of the site: pages that are made from the code are made anew at every build.

Each method's page, the commands, the front door, the notebook with what it prints, the changelog and CONTRIBUTING.
"""

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

DOCS = Path(__file__).parent.parent
ROOT = DOCS.parent
sys.path[:0] = [str(DOCS), str(DOCS / "tools")]

import code_pages  # noqa: E402
import method_pages  # noqa: E402
import notebook_page  # noqa: E402

_OUTSIDE = re.compile(r"\[([^\]]+)\]\((\.\./[^)#]+)[^)]*\)")
"""a link to a file of the repository that is not part of the site"""


def on_config(config: Any) -> Any:
    """Complete the navigation: methods, studies, and guides that it does not name."""
    sections = {key: value for one in config.nav for key, value in one.items() if isinstance(value, list)}
    sections["How each method works"] += [{title: path} for title, path in method_pages.navigation()]
    sections["Studies"] += [{title: f"studies/{path.name}"} for title, path in _studies()]
    named = set(re.findall(r"[\w/]+\.md", str(config.nav)))
    left = sorted(path for path in DOCS.glob("*.md") if path.name not in named)
    sections["Guides"] += [{_title(path): path.name} for path in left]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that no file holds."""
    pages = {
        **method_pages.pages(),
        "commands.md": code_pages.commands(),
        "api.md": code_pages.front_door(),
        "notebook.md": notebook_page.page(DOCS / "notebooks" / "tour.ipynb"),
        "studies/index.md": _list_of_studies(),
        "changelog.md": (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
        "contributing.md": (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"),
    }
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Show links to files of the repository as their names."""
    return _OUTSIDE.sub(lambda found: f"{found[1]} (`{found[2].lstrip('./')}`)", markdown)


def _studies() -> list[tuple[str, Path]]:
    found = sorted((DOCS / "studies").glob("*.md"))
    return [(_title(path).removeprefix("Study "), path) for path in found]


def _title(path: Path) -> str:
    return path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ").replace("`", "")


def _list_of_studies() -> str:
    """Return a table of the studies, each with its question."""
    lines = ["# Studies", "", (DOCS / "tools" / "studies.txt").read_text(encoding="utf-8")]
    lines += ["| study | question |", "|---|---|"]
    for title, path in _studies():
        paragraphs = path.read_text(encoding="utf-8").split("\n\n")
        question = " ".join(paragraphs[1].split()).partition(". ")[0].removesuffix(".")
        lines.append(f"| [{title}]({path.name}) | {question} |")
    return "\n".join(lines) + "\n"

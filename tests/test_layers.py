"""Who may import whom: downwards only, and each foreign library in its own room."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "gemel"

# module prefix -> what it may import of gemel; the longest prefix that fits holds
LAYERS: dict[str, set[str]] = {
    "errors": set(),
    "archives": set(),
    "recipes": set(),
    "families": {"recipes"},
    "runs": {"archives", "errors", "config_file"},
    "class_names": {"errors", "config_file", "runs"},
    "claims": {"errors", "runs"},
    "classes": {""},
    "schedules": set(),
    "distributed": set(),
    "launched": {"errors"},
    "outputs": {"errors"},
    "pretraining": {""},
    "schema": {"errors"},
    "config_file": {"errors"},
    "settings": {"config_file", "errors", "families", "recipes", "schema"},
    "metrics": {"errors", "metrics"},
    "data": {"errors", "launched", "recipes", "distributed", "data"},
    "backbones": {"errors", "recipes", "distributed", "backbones"},
    "methods": {"errors", "recipes", "schedules", "distributed", "backbones.base", "data.batches", "methods"},
    "train": {
        "__init__", "archives", "claims", "errors", "launched", "recipes", "schedules", "distributed", "runs", "schema",
        "settings", "metrics", "data", "backbones", "methods", "train",
    },
    "evaluations": {
        "errors", "distributed", "runs", "schema", "settings", "metrics", "data", "backbones", "methods",
        "recipes", "train.checkpoints", "train.build", "train.fit", "train.fit_recipe", "train.logistic",
        "train.processes", "evaluations",
    },
    "exchange": {
        "claims", "errors", "outputs", "recipes", "runs", "schema", "settings", "backbones", "methods", "train.build",
        "train.checkpoints", "train.optimizers", "exchange",
    },
    "published": set(),
    "reports": {
        "class_names", "errors", "outputs", "runs", "metrics.health", "metrics.spread", "metrics.tables", "published",
        "reports",
    },
    "studies": {
        "__init__", "errors", "recipes", "runs", "schema", "settings", "metrics.clustering", "metrics.spread",
        "published", "reports", "pretraining", "train.asked", "studies",
    },
    "several": {""},
    "__init__": {""},
    "__main__": {"cli"},
    "cli": {""},
    "commands": {""},
}  # fmt: skip

FOREIGN = {
    "typer": {"cli", "commands"},
    "click": {"cli"},
    "lightning": {"train"},
    "timm": {"backbones.timm", "train.pretrain"},
    "jinja2": {"reports"},
    "numba": {"data.compiled"},
    "simplejpeg": {"data.jpeg"},
}

WITHOUT_TORCH = {
    "archives",
    "class_names",
    "classes",
    "errors",
    "recipes",
    "families",
    "claims",
    "runs",
    "schedules",
    "launched",
    "outputs",
    "pretraining",
    "schema",
    "config_file",
    "settings",
    "cli",
    "__init__",
    "metrics.health",
    "metrics.spread",
    "commands",
    "published",
    "reports",
    "several",
    "studies",
}

FILES = sorted(SOURCE.rglob("*.py"))


def name_of(file: Path) -> str:
    parts = list(file.relative_to(SOURCE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def fits(name: str, prefixes: set[str]) -> bool:
    return any(prefix in ("", name) or name.startswith(f"{prefix}.") for prefix in prefixes)


def imports_of(file: Path) -> list[tuple[str, bool]]:
    """(dotted name, whether at the top of the file) of everything that a file imports."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    top = set(map(id, tree.body))
    found: list[tuple[str, bool]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) in top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute"
            module = str(node.module)
            below = [f"{module}.{alias.name}" for alias in node.names]
            found += [(one if is_module(one) else module, id(node) in top) for one in below]
    return found


def is_module(dotted: str) -> bool:
    path = SOURCE.parent / Path(*dotted.split("."))
    return dotted.startswith("gemel.") and (path.with_suffix(".py").is_file() or path.is_dir())


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_imports_point_downwards(file: Path) -> None:
    name = name_of(file)
    layer = max((one for one in LAYERS if fits(name, {one})), key=len, default=None)
    assert layer is not None, f"{name} stands in no layer; put it into LAYERS"
    for imported, _ in imports_of(file):
        top, _, below = imported.partition(".")
        if top == "gemel":
            assert fits(below or "__init__", LAYERS[layer]), f"{name} may not import {imported}"
        elif top in FOREIGN:
            assert fits(name, FOREIGN[top]), f"{name} may not import {imported}: it belongs to {FOREIGN[top]}"


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_torch_stays_out(file: Path) -> None:
    name = name_of(file)
    if fits(name, WITHOUT_TORCH):
        heavy = {"torch", "torchvision", "timm", "lightning"}
        assert not [one for one, at_top in imports_of(file) if at_top and one.split(".")[0] in heavy]


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_sizes(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 300, f"{file} is too long"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 50, f"{file}:{node.lineno} {node.name} is too long"

"""Who may import whom: downwards only, and each foreign library in its own room."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "gemel"

# Rooms from the ground up; a room imports from its own and from lower rows, never from its neighbours.
LAYERS: list[tuple[str, ...]] = [
    ("errors", "hashing", "distributed", "samples", "schedules", "published"),
    ("text_files", "extras"),
    ("settings", "metrics"),
    ("runs", "launcher"),
    ("device",),
    ("data", "backbones"),
    ("methods", "reports"),
    ("engine",),
    ("supervised", "training"),
    ("request",),
    ("evaluations",),
    ("exchange", "studies", "explorer"),
    ("api",),
    ("__init__",),
    ("cli",),
    ("__main__",),
]

FOREIGN = {
    "typer": {"cli"},
    "click": {"cli"},
    "lightning": {"engine"},
    "timm": {"backbones.timm"},
    "jinja2": {"reports"},
    "numba": {"data.compiled"},
    "simplejpeg": {"data.jpeg"},
    "tifffile": {"data.other_files"},
    "pydicom": {"data.other_files"},
    "lmdb": {"data.sources.lmdb"},
    "fsspec": {"data.sources.remote"},
    "pycocotools": {"metrics.dense"},
}

WITHOUT_TORCH = {
    "__init__",
    "api",
    "cli",
    "errors",
    "hashing",
    "launcher",
    "metrics.agreement",
    "metrics.health",
    "metrics.spread",
    "published",
    "reports",
    "runs",
    "samples",
    "schedules",
    "settings",
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


def floor_of(name: str) -> int:
    room = name.partition(".")[0]
    floors = [floor for floor, rooms in enumerate(LAYERS) if room in rooms]
    assert len(floors) == 1, f"{room} stands in {len(floors)} layers; put it into one row of LAYERS"
    return floors[0]


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_imports_point_downwards(file: Path) -> None:
    name = name_of(file)
    room = name.partition(".")[0]
    for imported, _ in imports_of(file):
        top, _, below = imported.partition(".")
        if top == "gemel":
            other = (below or "__init__").partition(".")[0]
            other = other if (SOURCE / other).exists() or (SOURCE / f"{other}.py").exists() else "__init__"
            assert other == room or floor_of(other) < floor_of(name), f"{name} may not import {imported}"
        elif top in FOREIGN:
            assert fits(name, FOREIGN[top]), f"{name} may not import {imported}: it belongs to {FOREIGN[top]}"


def test_every_layer_has_rooms() -> None:
    rooms = {name_of(file).partition(".")[0] for file in FILES}
    assert {room for row in LAYERS for room in row} == rooms


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_torch_stays_out(file: Path) -> None:
    name = name_of(file)
    if fits(name, WITHOUT_TORCH):
        heavy = {"torch", "torchvision", "timm", "lightning"}
        assert not [one for one, at_top in imports_of(file) if at_top and one.split(".")[0] in heavy]


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_functions_are_short(file: Path) -> None:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 50, f"{file}:{node.lineno} {node.name} is too long"

"""A folder as the Hugging Face hub holds models of timm: tensors, configuration, and a model card made from the run."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from gemel import backbones
from gemel.backbones.timm import configuration
from gemel.engine.checkpoints import differences, read_tensors, written
from gemel.errors import UserError
from gemel.exchange import refuse
from gemel.runs.files import write_atomically, write_text
from gemel.runs.output_paths import check_writable
from gemel.runs.run import Run

CROP = 224 / 256
"""share of the shorter side that is seen"""

FILES = ("README.md", "config.json", "model.safetensors")


def export(run: Run, out: Path | None = None) -> Path:
    """Write model.safetensors, config.json and README.md, as `timm.create_model("local-dir:FOLDER")` loads them.

    Args:
        run: whose backbone it is.
        out: the folder; None: RUN/huggingface.

    Raises:
        UserError: as timm's format, or the folder holds something else.
    """
    facts = run.backbone_facts
    name, folder = str(facts["name"]), run.path / "huggingface" if out is None else out
    if name in backbones.available():
        raise refuse(name, "timm", ["it is gemel's own network"])
    tensors, channels = read_tensors(run.backbone_path), len(facts["mean"])
    with torch.random.fork_rng():
        network = backbones.find(name)(in_channels=channels).network
    wrong = differences(network, tensors)
    if wrong:
        raise refuse(name, "timm", wrong)
    _make(folder)
    write_atomically(folder / FILES[2], lambda path: written(lambda: save_file(tensors, path), folder / FILES[2]))
    seen = {
        "input_size": [channels, facts["size"], facts["size"]],
        "mean": facts["mean"],
        "std": facts["std"],
        "interpolation": "bicubic",
        "crop_pct": 1.0 if _sees_all(facts) else CROP,
        "crop_mode": "squash" if _sees_all(facts) else "center",
    }
    write_text(folder / FILES[1], json.dumps(configuration(name, network, seen), indent=2))
    write_text(folder / FILES[0], card(run))
    return folder


def _sees_all(facts: Mapping[str, Any]) -> bool:
    """Return whether images are squeezed into the square, and not cropped."""
    return facts["views"] == "glyph" or facts.get("crop") == "whole"


def _make(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or {one.name for one in folder.iterdir()} - set(FILES)):
        raise UserError(f"--out {folder} holds something else; name a new folder")
    standing = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())
    check_writable(standing, f"--out {folder}")
    folder.mkdir(parents=True, exist_ok=True)


def card(run: Run) -> str:
    """Return the model card: what was learned from what, how to use it, what was measured."""
    facts, environment = run.backbone_facts, run.environment
    imported = environment.get("imported")
    settings: Mapping[str, Any] = {} if imported else run.settings
    method = run.method_name if not run.method_name.endswith(".py") else Path(run.method_name).stem
    data = Path(str(settings["images"])).name if settings else "images that its authors tell"
    count = f"{environment['images']:,} images of " if "images" in environment and settings else ""
    name = facts["name"]
    lines = [
        "---",
        "library_name: timm",
        "pipeline_tag: image-feature-extraction",
        f"tags: [timm, image-feature-extraction, self-supervised, gemel, {method}]",
        "---",
        f"# {name}, {method}",
        "",
        f"A {name} that learned by {method} from {count}{data}, without labels: {facts['width']} features of an image.",
        "",
        "```python",
        "import timm",
        "",
        'network = timm.create_model("local-dir:FOLDER", pretrained=True).eval()  # or hf-hub:NAME/MODEL',
        "features = network(images)  # " + _images_of(facts),
        "```",
        "",
        *_table("Images", _preprocessing(facts)),
    ]
    if settings:
        kept = ("epochs", "batch_size", "image_size", "seed", "weights", "train", "precision")
        rows = {key: settings.get(key) for key in kept} | {"optimizer": (settings.get("optimizer") or {}).get("name")}
        lines += _table("Training", {key: one for key, one in rows.items() if one is not None})
    for result in run.evaluations():
        shown = {key: f"{one:.4g}" for key, one in result["metrics"].items()}
        lines += _table(f"Evaluation: {result['protocol']}", shown)
    versions = {key: environment[key] for key in ("gemel", "torch", "timm", "device") if key in environment}
    lines += _table("Made with", versions)
    lines += ["Licence and limits of use are those of the images and of the first weights, which this card can't know."]
    return "\n".join([*lines, ""])


def _images_of(facts: Mapping[str, Any]) -> str:
    return f"(B, {len(facts['mean'])}, {facts['size']}, {facts['size']}), normalised as below, to (B, {facts['width']})"


def _preprocessing(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return how an image becomes what the network takes."""
    size = facts["size"]
    crop = "the whole image" if _sees_all(facts) else "the middle 224 / 256 of the shorter side"
    found = {"crop": f"{crop}, bicubic, to {size} x {size} pixels", "channels": str(len(facts["mean"]))}
    if facts.get("white") is not None:
        found["values"] = f"(value - {facts.get('black') or 0:g}) / ({facts['white']:g} - {facts.get('black') or 0:g})"
    else:
        found["values"] = "value / 255" if facts.get("pixels") != "floats" else "as the files say, 0 black and 1 white"
    found |= {key: ", ".join(f"{one:.6g}" for one in facts[key]) for key in ("mean", "std")}
    return found


def _table(title: str, rows: Mapping[str, Any]) -> list[str]:
    return [f"## {title}", "", "| | |", "|---|---|", *(f"| {key} | {one} |" for key, one in rows.items()), ""]

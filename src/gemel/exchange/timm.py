"""A state dict by timm's names."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from gemel import backbones
from gemel.engine.checkpoints import differences, read_tensors, written
from gemel.exchange import output, refuse
from gemel.runs.files import write_atomically
from gemel.runs.run import Run


def export(run: Run, out: Path | None = None) -> Path:
    """Write what `timm.create_model(NAME, num_classes=0)` loads strictly.

    Args:
        run: whose backbone it is.
        out: the file, .safetensors or .pth; None: RUN/timm.safetensors.

    Raises:
        UserError: the network is gemel's own, or timm's one of that name has other tensors (a small stem; a
            transformer for images of another size, which has another number of position embeddings).
    """
    name = str(run.backbone_facts["name"])
    if name in backbones.available():
        raise refuse(name, "timm", ["it is gemel's own network"])
    path = output(run, out, "timm.safetensors", ".safetensors", ".pth", ".pt")
    tensors = read_tensors(run.backbone_path)
    with torch.random.fork_rng():
        wrong = differences(backbones.find(name)().network, tensors)
    if wrong:
        raise refuse(name, "timm", wrong)
    write = save_file if path.suffix == ".safetensors" else torch.save
    write_atomically(path, lambda temporary: written(lambda: write(tensors, temporary), path))
    return path

"""The backbone's tensors under its own library's names, and beside them the facts that a reader needs."""

import json
from pathlib import Path

from safetensors.torch import save_file

from gemel.engine.checkpoints import read_tensors, written
from gemel.exchange import output
from gemel.runs.files import write_atomically, write_text
from gemel.runs.run import Run


def export(run: Run, out: Path | None = None) -> Path:
    """Write NAME.safetensors, and NAME.json: name, options, width, size, mean and std.

    Args:
        run: whose backbone it is.
        out: the file; None: RUN/<name of the backbone>.safetensors.

    Raises:
        UserError: the run has no backbone yet, or the file can't be written.
    """
    facts = run.backbone_facts
    path = output(run, out, f"{facts['name']}.safetensors", ".safetensors")
    tensors = read_tensors(run.backbone_path)
    write_atomically(path, lambda temporary: written(lambda: save_file(tensors, temporary), path))
    write_text(path.with_suffix(".json"), json.dumps(facts, indent=1))
    return path

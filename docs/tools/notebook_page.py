"""The notebook as a page: it is run from top to bottom at every build, and fails the build where a cell fails."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

SECONDS = 300
"""for a cell, and for the kernel to start"""


def page(path: Path) -> str:
    """Return the notebook's cells, each with what it shows.

    Args:
        path: the notebook, kept without outputs.
    """
    notebook = nbformat.read(path, as_version=4)
    with TemporaryDirectory() as folder:
        # over a file and not over TCP, which anybody on the machine could listen to; its whole path, as the kernel runs
        # in that folder, and this process elsewhere
        kernel = AsyncKernelManager(kernel_name="python3", transport="ipc", ip=str(Path(folder) / "kernel"))
        patience = {"timeout": SECONDS, "startup_timeout": SECONDS}
        NotebookClient(notebook, kernel, **patience, resources={"metadata": {"path": folder}}).execute()
    return "\n\n".join(part for cell in notebook.cells for part in _shown(cell)) + "\n"


def _shown(cell: Any) -> list[str]:
    if cell.cell_type == "markdown":
        return [cell.source]
    parts = [f"```python\n{cell.source}\n```"]
    for output in cell.get("outputs", []):
        if output.output_type == "stream":
            parts.append(f"```text\n{output.text.rstrip()}\n```")
        elif "image/png" in output.data:
            parts.append(f'<img class="output" alt="" src="data:image/png;base64,{output.data["image/png"].strip()}">')
        else:
            parts.append(f"```text\n{output.data['text/plain']}\n```")
    return parts

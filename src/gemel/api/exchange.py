"""`gemel.export` and `gemel.import_official`: networks in other formats."""

from pathlib import Path

from gemel.api.runs import load
from gemel.runs.run import Run
from gemel.settings.schema import checked


def export(run: Run | str | Path, format: str, out: str | Path | None = None) -> Path:
    """Write a run's network in another format, and return the file.

    Args:
        run: a run or its folder.
        format: official: as the authors' released code saves it; timm, torchvision: what their networks load;
            detectron2: what its detectors load; onnx: a graph, images to features and classes; safetensors: the
            backbone's tensors, and a JSON file that describes them; huggingface: a folder of timm's layout with a model
            card.
        out: the file, or the folder; left out: one in the run's folder.

    Raises:
        UserError: there is no such format, or it has no such network.
    """
    from gemel.exchange import find

    return find(format)(load(run), None if out is None else Path(out))


@checked
def import_official(file: str | Path, out: str | Path, *, method: str = "twist", overwrite: bool = False) -> Run:
    """Make a run of a checkpoint of a method's released code, or of a bare backbone as it publishes one.

    Args:
        file: as torch saved it; nothing in it is executed.
        out: folder of the run.
        method: whose backbone it is, where the file holds nothing else.
        overwrite: replace the run at `out`.

    Raises:
        UserError: the file holds something else.
    """
    from gemel.exchange.official import read

    return read(file, out, method=method, overwrite=overwrite)

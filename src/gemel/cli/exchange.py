"""gemel import and gemel export."""

from typing import Any


def import_checkpoint(file: str, *, out: str, **options: Any) -> None:
    """Make a run of a checkpoint of a method's released code.

    Args:
        file: checkpoint of the official code, or a backbone's
        out: folder of the run
    """
    import gemel

    run = gemel.import_official(file, out, **options)
    facts = run.backbone_facts
    heads = "with its heads" if run.checkpoint_path.is_file() else "the backbone alone"
    print(f"{run.path}: {run.method_name}, {facts['name']}, {facts['width']} features, {heads}")


def export(run: str, format: str, *, out: str | None = None) -> None:
    """Write a run's network in another format: onnx, timm, ...

    Args:
        run: folder of a run
        format: name of a format
        out: the file; left out: one in the run's folder
    """
    import gemel

    print(gemel.export(run, format, out))

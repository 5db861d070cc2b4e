"""gemel: vision encoders from images without labels, and the classes that it finds in them.

The front door. Each function imports what it needs when it is called, so that `import gemel` is instant.
"""

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemel.api.several_runs import compare, report, study
from gemel.errors import UserError, brief
from gemel.runs.run import Run

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from torch import Tensor

    from gemel.backbones.base import Backbone
    from gemel.evaluations.base import Result

__version__ = "0.1.0"

__all__ = [
    "Run",
    "UserError",
    "backbone",
    "classify",
    "compare",
    "embed",
    "evaluate",
    "export",
    "import_official",
    "load",
    "pretrain",
    "report",
    "resume",
    "study",
    "views",
]


def pretrain(
    images: str | Path | None = None,
    *,
    out: str | Path | None = None,
    config: str | Path | None = None,
    overwrite: bool = False,
    rescan: bool = False,
    quiet: bool = False,
    **settings: Any,
) -> Run:
    """Learn an encoder from images without labels; then classes, scores and a report.

    Args:
        images: a folder, a text file of paths, or the name of a data set; left out: digits.
        out: the run's folder; else runs/METHOD-N, the next free number.
        config: a YAML file of settings; what is given here wins over it.
        overwrite: replace the run that stands at `out`.
        rescan: list the folder anew.
        quiet: print nothing.
        **settings: as on the command line: method="twist", epochs=100, optimizer={"name": "adamw", "lr": 1e-3}, ...

    Raises:
        UserError: with every mistake in what was given; nothing is written then.
    """
    from gemel.api.pretrain import pretrain as begin
    from gemel.settings.tree import Launch, layer_of_call

    strange = [key for key in settings if key in Launch.model_fields]
    if strange:
        raise UserError(f"{', '.join(strange)}: for the command line, gemel pretrain --{strange[0].replace('_', '-')}")
    launch = {"out": out, "config": config, "overwrite": overwrite or None, "rescan": rescan or None}
    return begin(layer_of_call({"images": images, **launch, **settings}), quiet=quiet)


def resume(run: Run | str | Path, *, quiet: bool = False) -> Run:
    """Continue an interrupted run to the same end; a run that has ended is left as it is.

    Raises:
        UserError: it is not a run, or its files are damaged.
    """
    from gemel.api.pretrain import resume as go_on

    return go_on(load(run), quiet=quiet)


def load(run: Run | str | Path) -> Run:
    """A run by its folder.

    Raises:
        UserError: there is no run.
    """
    if not isinstance(run, Run | str | PathLike):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UserError(f"a run is given by its folder, not {brief(run)}")
    return run if isinstance(run, Run) else Run(run)


def backbone(run: Run | str | Path) -> "Backbone":
    """The trained backbone in evaluation mode: normalised floats (B, 3, H, W) to (B, width)."""
    from gemel.engine.checkpoints import load_backbone

    return load_backbone(load(run))


def embed(run: Run | str | Path, images: str | Path | None = None, *, quiet: bool = True) -> "pa.Table":
    """Features of images, one row each that can be read: path, vector.

    Args:
        run: a run or its folder.
        images: as for pretrain; left out: those of the run.
        quiet: print nothing.

    Raises:
        UserError: the run has not ended, or the images can't be found or read.
    """
    from gemel.engine.processes import joined
    from gemel.evaluations.features import printed, say_unreadable, see
    from gemel.evaluations.networks import open_subject
    from gemel.evaluations.run_protocol import images_of
    from gemel.evaluations.tables import vector_table

    run = load(run)
    source = images_of(run, images, "none")
    with joined():
        seen = see(open_subject(run), source, tell=printed(quiet))
    say_unreadable(seen, quiet)
    return vector_table(seen)


def classify(
    run: Run | str | Path,
    images: str | Path | None = None,
    *,
    top: int = 3,
    labels: str | None = None,
    naming: str = "one_to_one",
    rename: Sequence[str] = (),
    quiet: bool = True,
) -> "pa.Table":
    """Discovered classes of images, one row each that can be read: path, class, probability, then the next likely ones.

    Names are kept in RUN/classes.yaml for later calls; classes of one name count as one.

    Args:
        run: a run or its folder.
        images: as for pretrain; left out: those of the run.
        top: classes that are told, the most likely ones.
        labels: of a labelled sample among the images, which names the classes: folders or FILE.csv.
        naming: one_to_one: a label names at most one class, so that most images are right; majority: a class takes
            its most frequent label.
        rename: names given by hand, `3=cat`; two classes of one name are merged, `3=` takes a name away.
        quiet: print nothing.

    Raises:
        UserError: the run's method discovers no classes, or the images can't be found or read.
    """
    from gemel.api.classify import classify as find

    return find(load(run), images, top=top, labels=labels, naming=naming, rename=rename, quiet=quiet)


def export(run: Run | str | Path, format: str, out: str | Path | None = None) -> Path:
    """Write a run's network in another format.

    Args:
        run: a run or its folder.
        format: official: as the authors' released code saves it; timm, torchvision: what their networks load;
            detectron2: what its detectors load; onnx: a graph, images to features; safetensors: the backbone's
            tensors, and a JSON file that tells what they are.
        out: the file; left out: one in the run's folder.

    Raises:
        UserError: there is no such format, or it has no such network.
    """
    from gemel.exchange import find

    return find(format)(load(run), None if out is None else Path(out))


def import_official(file: str | Path, out: str | Path, *, method: str = "twist", overwrite: bool = False) -> Run:
    """Make a run of an official TWIST or Barlow Twins checkpoint, or of the bare backbone that they publish.

    Args:
        file: as torch saved it; nothing in it is run.
        out: folder of the run.
        method: whose backbone it is, where the file has nothing else.
        overwrite: replace the run that stands at `out`.

    Raises:
        UserError: the file holds something else.
    """
    from gemel.exchange.official import read

    return read(file, out, method=method, overwrite=overwrite)


def evaluate(
    run: Run | str | Path,
    protocol: str,
    images: str | Path | None = None,
    *,
    test: str | Path | None = None,
    labels: str | None = None,
    quiet: bool = True,
    **options: Any,
) -> "Result":
    """Judge a network by a named protocol; the result is kept in RUN/evaluations, or below `out`.

    Args:
        run: a run or its folder; `timm:NAME` or `torchvision:NAME`.
        protocol: knn, cluster, ...
        images: as for pretrain; left out: those of the run.
        test: a test set; without one the protocol's own rule holds.
        labels: folders or FILE.csv; left out: the data set's own, or the run's.
        quiet: print nothing.
        **options: the protocol's own; network="random" or "pixels" judges, for comparison, the run's backbone with
            fresh weights (of network_seed) or the images themselves; out, weights and size are for timm's and
            torchvision's networks.

    Raises:
        UserError: unknown protocol or option, no labels, or weights that do not fit.
    """
    from gemel.evaluations.run_protocol import evaluate

    return evaluate(run, protocol, images, test=test, labels=labels, quiet=quiet, options=options)


def views(
    images: "Sequence[str | Path | bytes | np.ndarray]",
    recipe: str | Mapping[str, Any] | Run,
    *,
    seed: int = 0,
    epoch: int = 0,
    index: Sequence[int] | None = None,
) -> "list[Tensor]":
    """The views that training would see.

    Args:
        images: files, encoded bytes, or uint8 arrays (H, W) or (H, W, 3).
        recipe: a method or METHOD/RECIPE (as published, not fitted to the images); a run, or its settings; or
            {"name": "photo", "size": 96, ...}, or a paper's views by their name, as byol or dino. The size is 224
            where nothing tells it.
        seed: of the run.
        epoch: from 0.
        index: the images' places in the data set; left out: 0, 1, 2, ...

    Returns:
        V tensors (B, 3, H, W), uint8.

    Raises:
        UserError: an image can't be read, or the recipe is unknown.
    """
    from gemel.data.pixel_values import Decoding
    from gemel.data.preview import views_of

    settings = recipe.settings if isinstance(recipe, Run) else recipe if isinstance(recipe, Mapping) else {}
    decoding = Decoding.of(settings)
    return views_of(images, *_views_of(recipe), seed=seed, epoch=epoch, index=index, decoding=decoding)


def _views_of(recipe: Any) -> tuple[Any, int]:
    from gemel.methods import find_recipe
    from gemel.settings.recipes import VIEWS
    from gemel.settings.schema import convert, mistakes_in
    from gemel.settings.tree import nest

    if isinstance(recipe, str):
        return (found := find_recipe(recipe)[1]).views, found.image_size
    recipe = recipe.settings if isinstance(recipe, Run) else recipe
    views = nest({"views": recipe.get("views", recipe)}).get("views") if isinstance(recipe, Mapping) else None
    name = views.get("name", "photo") if isinstance(views, Mapping) else None
    if not isinstance(views, Mapping) or not isinstance(name, str) or name not in VIEWS:
        raise UserError(
            f"{recipe!r} names no views; give METHOD, METHOD/RECIPE or a mapping with `name`: photo, byol ..."
        )
    size = views.get("size", recipe.get("image_size", 224))
    if not isinstance(size, int) or not 4 <= size <= 4096:
        raise UserError(f"size must be a number of pixels from 4 to 4096, not {size!r}")
    values = {key: value for key, value in views.items() if key != "size"}
    wrong = mistakes_in(values, VIEWS[name].model_fields, lambda key: f"views.{key}", title=name)
    if wrong:
        raise UserError(*wrong)
    return VIEWS[name](**convert(VIEWS[name], values, "views")), size

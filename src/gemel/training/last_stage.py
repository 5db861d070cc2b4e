"""The last stage of a frozen network learns too, behind heads that have: on maps of crops that the trunk saw once."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gemel.backbones.base import Backbone
from gemel.backbones.parts.last_stage import Adapted, halves
from gemel.data.batches import draw_views
from gemel.data.kept_arrays import read_arrays, write_arrays
from gemel.data.listing import cache_folder
from gemel.data.neighbour_table import neighbours
from gemel.data.normalise import finisher
from gemel.data.plan import Plan
from gemel.data.sources.identity import fingerprint
from gemel.data.sources.maps import MapSource
from gemel.device import device
from gemel.engine.frozen import frozen
from gemel.engine.modes import evaluation_mode
from gemel.engine.processes import by_the_first
from gemel.hashing import hash_of_question, hash_of_tensors
from gemel.metrics.modularity import modularity
from gemel.samples import evenly_spread
from gemel.settings.recipes import PhotoViews
from gemel.training.prepared import Prepared
from gemel.training.stages import Stage
from gemel.training.task import Pretraining

SEEN = 2000
"""of more images so many, evenly spread, are looked at by the trunk; the others take the maps of the nearest one"""

JUDGED, NEAR = 500, 10
"""images by which it is judged whether learning helps, and the neighbours of each"""

EVERY = 20
"""steps after which it is judged"""

AT_A_TIME = 64
"""images of a forward pass of the trunk"""

_ROWS = 16_384
"""vectors that are looked at together"""


class Adapting(Pretraining):
    """The stage in which the tail learns, from where the heads have left it; it ends as soon as that does not help.

    Every `EVERY` steps the classes are judged by how well they divide the graph of neighbours that the features have by
    then (`metrics.modularity`): no label is looked at. What is best so far is kept; the first time that it gets no
    better, it is taken back, and the stage is over.

    Args:
        prepared: the run; its method's backbone becomes the tail before the components, whose modules are those of
            `prepared.frozen`.
        stage: of the run.
        plan: of the stage, on maps.
        done: steps of this stage done already.
    """

    def __init__(self, prepared: Prepared, stage: Stage, plan: Plan, *, done: int = 0) -> None:
        super().__init__(prepared.method, stage, plan, done=done)
        count, source = len(plan.source), plan.source
        assert isinstance(source, MapSource)
        sample = evenly_spread(count, JUDGED)
        self._maps = torch.from_numpy(source.take(sample))
        self._best, self._kept = -1.0, dict[str, Tensor]()

    def begin(self) -> None:
        """Judge the heads as they come; hooks have prepared the method's one stage before."""
        self._judge()

    def after_step(self, progress: float) -> None:
        """Judge now and then; take back what does not help, and end."""
        done = self.done + 1
        if (done % EVERY == 0 or done == self.steps) and not self._judge():
            self.method.load_state_dict(self._kept)
            self.steps = done
        super().after_step(progress)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds of the stage, the best weights so far too."""
        return super().state() | {"best": self._best, "kept": self._kept, "ends": self.steps}

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from a checkpoint of this stage."""
        super().load(state)
        self._best, self._kept, self.steps = float(state["best"]), dict(state["kept"]), int(state["ends"])

    @torch.no_grad()
    def _judge(self) -> bool:
        """Return whether the classes are better than the best so far; then these weights are kept."""
        with evaluation_mode(self.method):
            parts = [self.method.encoder()(part.to(device())) for part in self._maps.split(AT_A_TIME)]
            features = torch.cat(parts)
            classes = self.method.classify(features)
        if classes is not None:
            near = torch.from_numpy(neighbours(features.float().cpu(), NEAR))
            found = modularity(classes.argmax(1).cpu(), near)
            if found <= self._best:
                return False
            self._best = found
        self._kept = {name: value.clone() for name, value in self.method.state_dict().items()}
        return True


def adapting(prepared: Prepared, stage: Stage, *, done: int = 0) -> Adapting:
    """Return the stage, with the tail put before the components of the method's backbone.

    Raises:
        UserError: the network is no sequence of stages.
    """
    backbone, settings, method = prepared.frozen, prepared.settings, prepared.method
    assert backbone is not None and settings.backbone is not None
    trunk, tail = halves(backbone.eval(), settings.backbone["name"], settings.image_size or 0)
    source = maps_of(prepared, trunk)
    if not isinstance(method.backbone.network, Adapted):
        network = Adapted(tail, method.backbone.network)
        method.backbone = Backbone(network, method.backbone.width, in_channels=source.width or 0)
    return Adapting(prepared, stage, replace(prepared.plan, source=source, views=stage.views), done=done)


def maps_of(prepared: Prepared, trunk: nn.Module) -> MapSource:
    """Return the maps of the run's images and their crops; they stay in the user's cache.

    Args:
        prepared: the run.
        trunk: of its network, in evaluation mode.
    """
    settings, vectors = prepared.settings, prepared.vectors
    assert vectors is not None and vectors.images is not None
    recipe = PhotoViews.model_validate(settings.then.views)
    count = len(vectors)
    seen = evenly_spread(count, SEEN)
    plan = Plan(vectors.images, recipe, settings.image_size or 0, settings.seed, len(seen))
    images = [fingerprint(vectors.images), vectors.images.decoding.settings, len(seen)]
    views = [recipe.model_dump(), plan.size, plan.seed]
    name = hash_of_question([images, views, hash_of_tensors(trunk.state_dict())])
    folder = cache_folder()
    file = None if folder is None else folder / "maps" / f"{name}.arrays"

    @cache
    def look() -> NDArray[Any]:
        kept = None if file is None else read_arrays(file)
        maps = _look(trunk, plan, seen) if kept is None else kept["maps"]
        if file is not None and kept is None:
            write_arrays(file, {"maps": maps})
        return maps

    by_the_first(lambda: look().shape)  # the others find them in the cache
    return MapSource(vectors.images, look(), _nearest(prepared, seen), vectors.neighbours)


@torch.inference_mode()
def _look(trunk: nn.Module, plan: Plan, seen: NDArray[np.int64]) -> NDArray[Any]:
    """Return the maps of all views of some images, (S, K, c, h, w) in half precision."""
    normalise, views = finisher(plan.views).to(device()), plan.views.count
    look = frozen(trunk.to(device()), plan.size, images=views * len(seen), keep=False)
    found: list[Tensor] = []
    for start in range(0, len(seen), AT_A_TIME):
        drawn = draw_views(plan, 0, seen[start : start + AT_A_TIME].tolist()).batch.views
        found.append(torch.stack([look(normalise(view.to(device()))).half().cpu() for view in drawn], 1))
    return torch.cat(found).numpy()


def _nearest(prepared: Prepared, seen: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each image the place in `seen` of the nearest one by its components, (N,); of these, their own."""
    rows = _components(prepared)
    squares = rows[seen].square().sum(1)
    parts = [torch.addmm(squares, part, rows[seen].T, alpha=-2).argmin(1) for part in rows.split(4096)]
    found = torch.cat(parts).numpy()
    found[seen] = np.arange(len(seen))
    return found


def _components(prepared: Prepared) -> Tensor:
    """Return the components of the frozen features of all images, (N, components)."""
    network: Any = prepared.method.backbone.network
    network = network.components if isinstance(network, Adapted) else network
    assert prepared.vectors is not None
    parts = np.array_split(np.arange(len(prepared.vectors)), len(prepared.vectors) // _ROWS + 1)
    with torch.no_grad():
        return torch.cat([network(torch.from_numpy(prepared.vectors.take(part)).to(device())).cpu() for part in parts])

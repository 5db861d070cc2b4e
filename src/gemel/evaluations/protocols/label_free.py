"""label-free: signs of good features that need no label."""

from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field

from gemel.data.sources import Source
from gemel.errors import UserError
from gemel.evaluations.base import Evaluation, Progress, Subject
from gemel.evaluations.features import rejected_in, see
from gemel.evaluations.view_features import see_views
from gemel.metrics import collapse
from gemel.settings.recipes import VIEWS


class LabelFree(Evaluation):
    """RankMe, alpha-ReQ and uniformity of features of the inference crop; alignment and LiDAR of augmented views.

    Args:
        sample: images that RankMe, alpha-ReQ and uniformity look at; of more a sample is drawn
        objects: of them, images whose views are drawn
        view_count: views of each, for LiDAR; the first two for alignment
        first: first eigenvalue of alpha-ReQ's fit, from 1
        last: last one; fewer where the spectrum ends before
        seed: of the sample and of the views
    """

    any_class = True

    def __init__(
        self,
        *,
        sample: Annotated[int, Field(ge=4)] = 10_000,
        objects: Annotated[int, Field(ge=2)] = 500,
        view_count: Annotated[int, Field(ge=2, le=1000)] = 10,
        first: Annotated[int, Field(ge=1)] = 4,
        last: Annotated[int, Field(ge=2)] = 100,
        seed: Annotated[int, Field(ge=0, lt=2**32)] = 0,
    ) -> None:
        if last <= first:
            raise UserError(f"--last {last} must be above --first {first}: a slope needs two eigenvalues")
        self.sample, self.objects, self.view_count = sample, objects, view_count
        self.first, self.last, self.seed = first, last, seed

    def run(
        self, subject: Subject, train: Source, test: Source | None, *, tell: Progress | None
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """Return scores of the test images, or of `train` without a test set; labels are not used."""
        source = train if test is None else test
        seen = see(subject, source, tell=tell)
        if len(seen.features) < 4:
            raise UserError(f"{len(seen.features)} images of {source.name} can be read; at least four are needed")
        random = np.random.default_rng(self.seed)
        chosen = np.sort(random.permutation(len(seen.indices))[: self.sample])
        rows = seen.features[torch.from_numpy(chosen)]
        if not bool(rows.isfinite().all()):
            raise UserError("the features hold NaN or infinite values; the training diverged")
        objects = seen.indices[np.sort(random.permutation(len(seen.indices))[: self.objects])]
        recipe = VIEWS[subject.facts["views"]]()
        embedded = see_views(subject, source, objects, recipe, views=self.view_count, seed=self.seed, tell=tell)
        metrics = {
            "rankme": collapse.rankme(rows),
            "alpha_req": collapse.alpha_req(rows, first=self.first, last=self.last),
            "uniformity": collapse.uniformity(rows),
            "alignment": collapse.alignment(embedded[:, 0], embedded[:, 1]),
            "lidar": collapse.lidar(embedded),
        }
        return metrics, {
            "images": len(rows),
            "rankme_limit": min(rows.shape),
            "rankme_epsilon": 1e-7,
            "alpha_req_range": [self.first, min(self.last, *rows.shape)],
            "uniformity_t": 2.0,
            "alignment_power": 2.0,
            "objects": embedded.shape[0],
            "view_count": self.view_count,
            "view_recipe": recipe.model_dump(mode="json"),
            "lidar_delta": 1e-4,
            "layer": "features of the backbone, not the embedding",
            "seed": self.seed,
            "split": "all images" if test is None else f"test set {test.name}",
            "rejected": rejected_in(seen),
        }

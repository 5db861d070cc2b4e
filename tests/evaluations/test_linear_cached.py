"""linear-cached: against scikit-learn, on separable features, and mistakes of splits."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from gemel import evaluations
from gemel.data.sources import ArraySource, open_source
from gemel.errors import UserError
from gemel.evaluations.base import Result, Subject
from gemel.evaluations.features import see
from gemel.evaluations.networks import Pixels, pixel_facts
from gemel.evaluations.run_protocol import judge
from gemel.evaluations.splits import HOLD_OUT, hold_out


def run(subject: Subject, train: ArraySource, test: ArraySource | None = None, **options: float) -> Result:
    return judge(subject, evaluations.make("linear-cached", options), train, test, labels="own")


@pytest.fixture(scope="module")
def pixels(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return Subject(Pixels(), pixel_facts(8, "glyph"), "raw pixels", tmp_path_factory.mktemp("pixels"))


def test_as_scikit_learn(pixels: Subject) -> None:
    source = open_source("digits")
    found = run(pixels, source, strengths=4, weakest=-3, strongest=0)
    seen = see(pixels, source)
    assert source.labels is not None
    rows, labels = seen.features.double().numpy(), source.labels
    indices, held = hold_out(source)
    inner, validation = (indices[part] for part in hold_out(source.subset(indices)))

    def accuracy(fit: np.ndarray, judged: np.ndarray, strength: float) -> float:
        # C = 1 / (strength N), the sum of losses against the mean
        model = LogisticRegression(C=1 / (strength * len(fit)), max_iter=5000, tol=1e-6)
        model.fit(rows[fit], labels[fit])
        return float(model.score(rows[judged], labels[judged]))

    path = np.logspace(0, -3, 4)
    scores = [accuracy(inner, validation, strength) for strength in path]
    best = path[int(np.argmax(scores))]
    assert found.settings["strength"] == pytest.approx(best)
    assert found.metrics["validation_top1"] == pytest.approx(max(scores), abs=0.005)
    assert found.metrics["top1"] == pytest.approx(accuracy(indices, held, best), abs=0.006)
    assert found.settings["split"] == HOLD_OUT
    assert (found.settings["fitted"], found.settings["judged"]) == (len(indices), len(held))
    assert "not the published protocol" in found.settings["protocol"]


class OneHot(nn.Module):
    """The class is written in the first pixel."""

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.one_hot((images[:, 0, 0, 0] * 255).round().long() // 20, 192).float()


def stamped(count: int, classes: int, *, corner: int = 0) -> ArraySource:
    """Images that tell their class; the last pixel makes others of them."""
    labels = np.arange(count) % classes
    images = np.repeat((labels * 20).astype(np.uint8), 64).reshape(count, 8, 8)
    images[:, -1, -1] = corner
    return ArraySource("stamped", images, labels=labels, label_names=[f"kind {one}" for one in range(classes)])


def test_separable_features_are_separated(tmp_path: Path) -> None:
    judged = Subject(OneHot(), pixel_facts(8, "glyph"), "one-hot", tmp_path)
    found = run(judged, stamped(100, 10), strengths=3)
    assert found.metrics == {"top1": 1, "top5": 1, "fitted_top1": 1, "validation_top1": 1}
    apart = run(judged, stamped(100, 4), stamped(40, 4, corner=255), strengths=3)
    assert apart.metrics == {"top1": 1, "fitted_top1": 1, "validation_top1": 1}
    assert apart.settings["split"] == "test set stamped"
    assert (apart.settings["fitted"], apart.settings["judged"]) == (100, 40)


def test_mistakes(tmp_path: Path) -> None:
    judged = Subject(OneHot(), pixel_facts(8, "glyph"), "one-hot", tmp_path)
    one = stamped(40, 4, corner=255)
    assert one.labels is not None
    fewer = stamped(40, 4)
    fewer.labels = np.where(one.labels == 3, -1, one.labels)
    with pytest.raises(
        UserError, match=r"1 classes of the test set stamped \(10 of its images\) have no image in stamped: kind 3"
    ):
        run(judged, fewer, one)
    with pytest.raises(UserError, match="one class"):
        run(judged, stamped(40, 1))
    fewer.labels = None
    with pytest.raises(UserError, match="0 labels"):
        run(judged, fewer)
    with pytest.raises(UserError, match="--strongest -3 is below --weakest 2"):
        run(judged, one, strongest=-3, weakest=2)
    with pytest.raises(UserError, match="--strengths must be greater than or equal to 1"):
        run(judged, one, strengths=0)

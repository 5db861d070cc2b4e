"""Embeddings read as an information bottleneck: from a run to its report."""

from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gemel
from gemel.data.sources import open_source
from gemel.errors import UserError
from gemel.evaluations.bottleneck import bottleneck
from gemel.evaluations.networks import open_subject
from gemel.evaluations.view_features import see_views
from gemel.methods.barlow_twins import barlow_twins_loss
from gemel.reports.bottleneck_section import bottleneck_section
from gemel.runs.run import BOTTLENECK
from gemel.settings.recipes import VIEWS, Views


def recipe_of(run: gemel.Run) -> Views:
    views = run.settings["views"]
    return VIEWS[views["name"]].model_validate(views)


def test_a_method_with_embeddings_has_it(photos_run: gemel.Run, photos: Path) -> None:
    found = photos_run.bottleneck()
    assert found is not None
    assert (found["images"], found["width"], found["rankme_limit"]) == (40, 32, 32)
    assert len(found["spectrum"]) == 32
    assert found["spectrum"] == sorted(found["spectrum"], reverse=True)
    # standardised: Hadamard's inequality; the views of an image vary less than all views
    assert log(found["ridge"]) < found["conditional"] < found["entropy"] < 1e-3
    total = found["invariance"] + found["lambda_param"] * found["redundancy"]
    assert found["redundancy_share"] == pytest.approx(1 - found["invariance"] / total)
    assert "Spectrum of C" in photos_run.report_path.read_text(encoding="utf-8")
    subject = open_subject(photos_run)
    again = bottleneck(subject, open_source(photos), np.arange(40), recipe_of(photos_run))
    assert again is not None
    assert again.pop("spectrum") == pytest.approx(found.pop("spectrum"))
    assert again == pytest.approx(found)


def test_its_terms_are_the_loss(photos_run: gemel.Run, photos: Path) -> None:
    subject, source = open_subject(photos_run), open_source(photos)
    found = photos_run.bottleneck()
    assert found is not None
    views = see_views(
        subject, source, np.arange(40), recipe_of(photos_run), views=2, seed=0, method=subject.method
    )  # (40, 2, 32)
    terms = barlow_twins_loss(views[:, 0].double(), views[:, 1].double())
    assert float(terms["invariance"]) == pytest.approx(found["invariance"])
    assert float(terms["redundancy"]) == pytest.approx(found["redundancy"])


def test_other_methods_and_broken_networks_have_none(
    digits_run: gemel.Run, photos_run: gemel.Run, photos: Path
) -> None:
    assert digits_run.bottleneck() is None
    assert "Spectrum of C" not in digits_run.report_path.read_text(encoding="utf-8")
    subject, source = open_subject(photos_run), open_source(photos)
    recipe = recipe_of(photos_run)
    assert bottleneck(subject, source, np.arange(1), recipe) is None
    assert subject.method is not None
    with torch.no_grad():
        next(subject.method.parameters()).fill_(torch.nan)
    assert bottleneck(subject, source, np.arange(8), recipe) is None


def test_the_report_says_when_images_are_few(photos_run: gemel.Run, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("method: mine\n")
    copy = gemel.load(tmp_path)
    assert bottleneck_section(copy) is None
    found = photos_run.bottleneck()
    assert found is not None
    for images, few in ((found["images"], False), (16, True)):
        copy.write_json(BOTTLENECK, found | {"images": images})
        section = bottleneck_section(copy)
        assert section is not None
        assert ("Fewer views than dimensions" in section.about) == few
        assert len(section.rows) == 9
    weightless = {key: value for key, value in found.items() if key not in ("lambda_param", "redundancy_share")}
    copy.write_json(BOTTLENECK, weightless)
    section = bottleneck_section(copy)
    assert section is not None and len(section.rows) == 8


@pytest.mark.parametrize("damage", [{"images": "many"}, {"spectrum": None}, {"ridge": "small"}, {"width": None}])
def test_damaged_numbers_are_named(photos_run: gemel.Run, tmp_path: Path, damage: dict[str, Any]) -> None:
    (tmp_path / "run.yaml").write_text("method: mine\n")
    copy = gemel.load(tmp_path)
    copy.write_json(BOTTLENECK, (photos_run.bottleneck() or {}) | damage)
    with pytest.raises(UserError, match=r"bottleneck\.json is damaged"):
        bottleneck_section(copy)

"""Embeddings as an information bottleneck: a table with a reading of each number, and the spectrum of C."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from gemel.errors import UserError
from gemel.reports.charts.curves import Chart
from gemel.reports.charts.svg import Mark
from gemel.reports.charts.svg_charts import Series, line_chart
from gemel.reports.formatting import number, percent
from gemel.runs.run import BOTTLENECK, Run


class Bottleneck(NamedTuple):
    """What was measured, and how to read it."""

    about: str
    rows: tuple[tuple[str, str, str], ...]
    """name, value, reading"""
    spectrum: Chart


def bottleneck_section(run: Run) -> Bottleneck | None:
    """Return the numbers of evaluations/bottleneck.json in words; None where there is no such file.

    Raises:
        UserError: the file is damaged.
    """
    found = run.bottleneck()
    if not found:
        return None
    try:
        return _section(found)
    except (KeyError, TypeError, ValueError) as error:  # numbers are missing, or are none
        raise UserError(f"{run.path / BOTTLENECK} is damaged: {error!r}; delete it") from error


def _section(found: Mapping[str, Any]) -> Bottleneck:
    images, width = found["images"], found["width"]
    about = (
        f"Of two views of {images:,} images, {width:,} dimensions, standardised. An embedding should vary much over "
        "images (entropy) and little over the views of one image (conditional part): both for Gaussians, as "
        "log-determinants (appendix A of arXiv 2103.03230)."
    )
    if 2 * images <= width:
        about += f" Fewer views than dimensions: the ridge of {found['ridge']:g} stands in for the missing directions."
    floor = number(float(np.log(found["ridge"])), 3)
    weight = found.get("lambda_param")
    rows = [
        ("entropy: log|Σ| / D", number(found["entropy"]), "0: no dimension repeats another; lower: redundant"),
        ("conditional part: log|Σ given the image| / D", number(found["conditional"]),
         f"lower: the two views agree more; {floor}: they are equal"),
        ("information shared with the image", f"{number(found['shared'])} nats", "half their difference, all D"),
        ("invariance Σ (1 − C_ii)²", number(found["invariance"]), f"0 to about {width:,}: 0 where views agree"),
        ("redundancy Σ C_ij²", number(found["redundancy"]), f"before λ = {weight:g}" if weight else "0 where no "
         "dimension repeats another"),
        ("effective rank (RankMe)", number(found["rankme"]), f"at most {found['rankme_limit']:,}"),
        ("IMAX / D, for comparison", number(found["imax"]), "lower: the views share more"),
        (f"InfoNCE at τ = {found['temperature']:g}, for comparison", number(found["info_nce"]),
         f"by chance {number(found['info_nce_by_chance'])}"),
    ]  # fmt: skip
    if weight:
        share = percent(found["redundancy_share"])
        rows.insert(5, ("share of the redundancy in the loss", share, "near 0 % or 100 %: one term rules; λ moves it"))
    return Bottleneck(about, tuple(rows), _spectrum(found["spectrum"]))


def _spectrum(values: list[float]) -> Chart:
    title = "Spectrum of C"
    line = Series(title, np.arange(1.0, len(values) + 1), np.asarray(values, np.float64), 0)
    drawing = line_chart(
        title,
        [line],
        x_name="singular value",
        span=(1.0, max(2.0, float(len(values)))),
        from_zero=True,
        levels=[Mark(1.0, "optimum")],
    )
    reading = "Singular values of the cross-correlation: all 1 at the optimum; a few large ones: redundant dimensions."
    return Chart(title, reading, (), drawing, "")

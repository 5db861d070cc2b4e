"""From rows of metrics.csv to lines."""

import math

import numpy as np
import pyarrow as pa

from gemel.reports.charts.curves import read_log
from gemel.reports.charts.svg_charts import MOST_POINTS, thin


def test_thinning_keeps_the_ends_the_spikes_and_the_gaps() -> None:
    x = np.arange(50_000, dtype=np.float64)
    y = np.sin(x / 1000)
    y[12_345], y[23_456], y[34_567] = 9.0, -9.0, math.nan
    thinned_x, thinned_y = thin(x, y)
    assert len(thinned_x) <= MOST_POINTS
    assert (thinned_x[0], thinned_x[-1]) == (0, 49_999)
    assert np.nanmax(thinned_y) == 9 and np.nanmin(thinned_y) == -9 and np.isnan(thinned_y).sum() == 1
    assert thin(x[:MOST_POINTS], y[:MOST_POINTS])[0].tolist() == x[:MOST_POINTS].tolist()


def test_rows_stand_at_their_part_of_an_epoch_and_stages_follow_each_other() -> None:
    table = pa.table({
        "stage": ["pretrain"] * 4 + ["self_labeling"] * 4,
        "epoch": [0, 0, 1, 1, 0, 0, 1, 1],
        "step": [1, 6, 11, 16, 21, 26, 31, 36],
        "loss": [1.0] * 8,
    })  # fmt: skip
    log = read_log("one", "twist", table, {})
    assert log.x.tolist() == [0, 0.5, 1, 1.5, 1.5, 2, 2.5, 3]
    assert [(mark.value, mark.name) for mark in log.stages] == [(1.5, "self labeling")]

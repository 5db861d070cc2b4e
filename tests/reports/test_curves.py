"""From rows of metrics.csv to lines."""

import math

import numpy as np
import pyarrow as pa

from gemel.reports.charts.curves import charts, read_log
from gemel.reports.charts.svg_charts import MOST_POINTS, thin
from gemel.reports.method_facts import method_facts


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
    log = read_log("one", method_facts({"method": "twist"}, {}), table, {})
    assert log.x.tolist() == [0, 0.5, 1, 1.5, 1.5, 2, 2.5, 3]
    assert [(mark.value, mark.name) for mark in log.stages] == [(1.5, "self labeling")]


def test_terms_of_the_loss_have_the_methods_own_reading() -> None:
    """Terms of one first word share a chart; a column that the method says nothing of has its own."""
    names = ("invariance", "redundancy", "std_before", "std_after", "kept", "other")
    table = pa.table({"step": [1, 2], "loss": [1.0, 0.5], "lr": [0.1, 0.1]} | {name: [1.0, 2.0] for name in names})
    terms = {name: f"reading of {name}" for name in (*names, "absent") if name != "other"}
    facts = method_facts({"method": "mine"}, {"method": {"title": "Mine", "terms": terms}})
    found = {chart.title: chart for chart in charts([read_log("one", facts, table, {})])}
    assert list(found) == ["Loss", "Terms of the loss", "Learning rate", "Spread", "Other"]
    assert [line.name for line in found["Terms of the loss"].legend] == ["invariance", "redundancy", "kept"]
    assert found["Spread"].reading == "Spread before: reading of std_before. Spread after: reading of std_after."
    assert not found["Other"].reading
    assert not any("absent" in chart.reading for chart in found.values())

"""The published results that come with the package."""

import math

import pytest

from gemel import published
from gemel.published import Published, form_of


def test_every_row_is_well_formed() -> None:
    rows = published.everything()
    assert len(rows) == 813
    for row in rows:
        assert all(text and text == text.strip() for text in (row.table, row.method, row.network, row.data, row.source))
        assert row.metric
        assert math.isfinite(row.value)
        assert row.epochs is None or 1 <= row.epochs <= 1000


def test_no_number_stands_twice() -> None:
    rows = published.everything()
    assert len(set(rows)) == len(rows)
    keys = [row._replace(value=0.0) for row in rows]
    assert [row for row in keys if keys.count(row) > 1] == []


@pytest.mark.parametrize(
    ("wanted", "value"),
    [
        ({"method": "TWIST", "network": "ResNet-50", "epochs": 800, "metric": "linear top5",
          "table": "TWIST Table 3 linear classification (RN50 without multi-crop)"}, 91.0),
        ({"table": "TWIST Table 8 loss-term ablation", "method": "TWIST with L_s without L_d",
          "metric": "sharpness entropy L_s"}, 2.59),
        ({"table": "Barlow Twins Table 5 loss ablation", "method": "Barlow Twins no BN in MLP",
          "metric": "linear top1"}, 71.2),
    ],
)  # fmt: skip
def test_known_numbers(wanted: dict[str, str], value: float) -> None:
    (row,) = published.rows(**wanted)
    assert row.value == value


def test_rows_takes_one_value_or_several() -> None:
    both = published.rows(table="TWIST Table 7 NBS ablation", metric=["NMI", "training loss"])
    assert [(row.method, row.value) for row in both] == [
        ("TWIST with NBS", -5.05),
        ("TWIST with NBS", 59.0),
        ("TWIST without NBS", -3.78),
        ("TWIST without NBS", 47.0),
    ]
    assert published.rows(method="nobody") == []


@pytest.mark.parametrize(
    ("printed", "method", "form"),
    [
        ("Barlow Twins", "barlow_twins", ""),
        ("Barlow Twins (VISSL)", "barlow_twins", "VISSL"),
        ("Barlow Twins only invariance term (on-diagonal)", "barlow_twins", "only invariance term (on-diagonal)"),
        ("TWIST without NBS", "twist", "without NBS"),
        ("W-MSE", "w_mse", ""),
        ("MoCo v2+", "moco_v2", None),
        ("TWIST", "barlow_twins", None),
    ],
)
def test_form_of(printed: str, method: str, form: str | None) -> None:
    assert form_of(printed, method) == form


def test_a_row_knows_its_fields() -> None:
    assert Published._fields == ("table", "method", "network", "epochs", "data", "metric", "value", "source")

"""What a report says of a method comes from the run's folder."""

import pytest

from gemel.reports.method_facts import method_facts


def test_recorded_facts() -> None:
    recorded = {"title": "MINE", "terms": {"pull": "how near"}, "advice": {"one_class": "raise it"}, "protocols": {}}
    facts = method_facts({"method": {"name": "mine"}}, {"method": recorded})
    assert facts == ("mine", "MINE", {"pull": "how near"}, {"one_class": "raise it"})


@pytest.mark.parametrize(
    ("name", "title"),
    [("twist", "TWIST"), ("barlow_twins", "Barlow Twins"), ("folder/my_method.py", "My method"), ("", "")],
)
def test_a_run_that_recorded_nothing(name: str, title: str) -> None:
    assert method_facts({"method": name}, {}) == (name, title, {}, {})


@pytest.mark.parametrize("recorded", [None, 3, "TWIST", [], {"title": 3, "terms": [1], "advice": {"one_class": 3}}])
def test_facts_of_another_form_count_as_not_recorded(recorded: object) -> None:
    assert method_facts({"method": "mine"}, {"method": recorded}) == ("mine", "Mine", {}, {})

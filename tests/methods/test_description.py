"""What a method says of itself for reports, which import no method."""

import json

import pytest

from gemel import methods
from gemel.metrics.health import ADVICE


@pytest.mark.parametrize("name", methods.available())
def test_every_method_describes_itself_in_words_that_json_keeps(name: str) -> None:
    described = methods.find(name).described()
    assert json.loads(json.dumps(described)) == described
    assert described["title"]
    assert set(described["advice"]) <= set(ADVICE)
    assert all(described["terms"].values())


def test_advice_for_an_unknown_finding_is_refused() -> None:
    twist = methods.find("twist")
    with pytest.raises(TypeError, match="advice for one_clas; there are no_loss"):
        type("Misspelt", (twist,), {"advice": {"one_clas": "raise beta"}, "__doc__": "Give advice on nothing."})

"""What is chosen where the user said nothing: reasons tell a bound that acts, and a paper's recipe stays so."""

from typing import Any

import pytest

from gemel.request.defaults import Facts, fill, recipe_of

FACTS = Facts(images=1000, side=300, gray=False, stated_classes=None, in_memory=False, gpu=False, cores=2)


def chosen(name: str | None = None, given: dict[str, Any] | None = None, **facts: Any) -> dict[str, tuple[Any, str]]:
    """(value, reason) of every choice for TWIST, and the settings."""
    found = FACTS._replace(**facts)
    recipe, choices = recipe_of("twist", name, found)
    values, more = fill(
        {"method": {"name": "twist"}, **(given or {})}, recipe, found, fitted=name is None, has_classes=True,
        seconds=lambda backbone, size: 1e-4,
    )  # fmt: skip
    assert {one.key: values[one.key] for one in more if one.key in values and one.key not in ("views", "backbone")} == {
        one.key: one.value for one in more if one.key in values and one.key not in ("views", "backbone")
    }, "what is said is what is set"
    return {one.key: (one.value, one.reason) for one in (*choices, *more)}


@pytest.mark.parametrize(
    ("facts", "key", "value", "bound"),
    [
        ({"images": 40}, "epochs", 200, "1078; at most 200"),
        ({"images": 400}, "epochs", 108, ""),
        ({"images": 100_000}, "epochs", 5, "3; at least 5"),
        ({"images": 6}, "classes", 2, ""),
        ({"images": 2}, "classes", 2, "1; at least 2"),
        ({"images": 3_000_000}, "classes", 1000, "1225; at most 1000"),
        ({"side": 2000, "gpu": True}, "image_size", 224, "at most 224"),
        ({"side": 20, "gpu": True}, "image_size", 32, "at least 32"),
        ({"side": 100, "gpu": True}, "image_size", 100, ""),
        ({"side": 90}, "image_size", 48, "at most 48"),
        ({"images": 7}, "batch_size", 2, "the smallest batch"),
        ({"images": 40}, "batch_size", 8, "at least four steps"),
        ({"cores": 64}, "workers", 8, "at most 8"),
        ({"cores": 4}, "workers", 3, ""),
    ],
)
def test_the_reason_tells_the_bound(facts: dict[str, Any], key: str, value: int, bound: str) -> None:
    found, reason = chosen(**facts)[key]
    assert found == value
    assert bound in reason
    assert bound or ("at most" not in reason and "at least" not in reason)


@pytest.mark.parametrize(("side", "stem"), [(40, "small"), (300, "standard")])
def test_a_method_may_have_its_own_network(side: int, stem: str) -> None:
    """CMC's two half networks belong to it: no other is chosen by the images."""
    found = FACTS._replace(side=side, gpu=True)
    recipe, _ = recipe_of("cmc", None, found)
    values, choices = fill(
        {"method": {"name": "cmc"}}, recipe, found, fitted=True, has_classes=False, seconds=lambda backbone, size: 1e-4
    )
    assert values["backbone"] == {"name": "lab_resnet", "depth": 18, "width": 0.5, "stem": stem}
    assert ("backbone", "the method's own network") in {(one.key, one.reason) for one in choices}


def test_a_papers_recipe_stays_the_papers() -> None:
    """On ImageNet with a GPU: no bound of ours on the epochs, the batch or the classes."""
    found = chosen(images=1_281_167, gpu=True, cores=16, side=400)
    assert found["recipe"][0] == "twist/resnet50"
    assert {key: found[key] for key in ("epochs", "batch_size", "classes")} == {
        "epochs": (800, "as the recipe"),
        "batch_size": (2048, "as the recipe"),
        "classes": (32768, "as the recipe"),
    }
    assert chosen(images=1_281_167, gpu=True, stated_classes=1000)["classes"][0] == 32768
    assert chosen(images=1_281_167, gpu=True, given={"classes": 7}).get("classes") is None, "the user's word stands"


def test_a_recipe_that_says_no_classes_has_the_methods_own() -> None:
    assert chosen("resnet50-multicrop")["classes"] == (4096, "the method's default")
    assert chosen("resnet50-multicrop", stated_classes=10)["classes"][0] == 10


def test_the_precision_of_a_gpu_without_bfloat16_is_not_called_a_cpus() -> None:
    assert chosen(gpu=True)["precision"][1].startswith("a GPU ")
    assert chosen()["precision"] == ("32", "a CPU")

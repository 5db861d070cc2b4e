"""Every method in the folder, the same contract."""

import re
from typing import Any

import pytest
import torch
from torch import Tensor

from gemel import methods
from gemel.backbones.convnet import convnet
from gemel.data.batches import Batch
from gemel.engine import optimizers
from gemel.errors import UserError
from gemel.methods.base import Method
from gemel.settings.schema import convert, describe, schema_of
from hooks import batch_of, begun, embed_of

NAMES = methods.available()


def build(name: str, seed: int = 0) -> Method:
    torch.manual_seed(seed)
    method = methods.find(name)
    return begun(method(convnet(widths=(8, 8), strides=(2, 2)), **method.small))


@pytest.mark.parametrize("name", NAMES)
def test_loss_is_finite_and_reaches_every_parameter(name: str) -> None:
    method = build(name)
    terms = method(batch_of(method), 0.5)
    assert set(terms) > {"loss"}, "named terms are told beside the loss"
    assert all(value.ndim == 0 and torch.isfinite(value) for value in terms.values())
    terms["loss"].backward()
    unreached = [key for key, one in method.named_parameters() if one.requires_grad and one.grad is None]
    assert unreached == []


@pytest.mark.parametrize("name", NAMES)
def test_more_views_are_taken_or_refused(name: str) -> None:
    """Small crops beside two large ones: a loss, or a word, never a traceback."""
    method = build(name)
    try:
        assert torch.isfinite(method(batch_of(method, local=1), 0.5)["loss"])
    except UserError as error:
        assert "--views.local_count 0" in str(error)  # noqa: PT017


@pytest.mark.parametrize("name", NAMES)
def test_bare_loop_learns(name: str) -> None:
    """No trainer is needed; the loss of a fixed batch falls; where there is a queue, once it is full of its keys."""
    method = build(name)
    data = batch_of(method)
    optimizer = torch.optim.Adam(method.parameters(), 1e-2)
    losses: list[float] = []
    for step in range(16):
        optimizer.zero_grad()
        terms = method(data, step / 16)
        terms["loss"].backward()
        optimizer.step()
        method.after_step(step / 16)
        losses.append(float(terms["loss"].detach()))
    assert losses[-1] < max(losses[:5])


@pytest.mark.parametrize("name", NAMES)
def test_state_is_whole(name: str) -> None:
    """A method that is saved and loaded goes on exactly like one that was not."""
    first = build(name)
    first(batch_of(first), 0.0)["loss"].backward()
    second = build(name, seed=1)
    second.load_state_dict(first.state_dict())
    losses: list[float] = []
    for method in (first, second):
        torch.manual_seed(2)  # dropout and noise, which the engine seeds at every step
        method.before_step(embed_of(method), 0.1)
        losses.append(float(method(batch_of(method, seed=2), 0.1)["loss"].detach()))
    assert losses[0] == losses[1]


@pytest.mark.parametrize("name", NAMES)
def test_groups_hold_each_parameter_once(name: str) -> None:
    method = build(name)
    grouped = [id(one) for group in method.parameter_groups() for one in group.parameters]
    assert sorted(grouped) == sorted(id(one) for one in method.parameters() if one.requires_grad)
    if type(method).decays is Method.decays:  # others follow their released code
        assert not any(one.ndim == 1 for group in method.parameter_groups() if group.decay for one in group.parameters)


@pytest.mark.parametrize("name", NAMES)
def test_recipes_resolve(name: str) -> None:
    """Every recipe's options fit the method's schema, and its optimiser can be built."""
    method = methods.find(name)
    for recipe in method.recipes.values():
        convert(schema_of(method), recipe.method, name)
        optimizers.build(recipe.optimizer, build(name).parameter_groups())
        assert recipe.source


@pytest.mark.parametrize("name", NAMES)
def test_every_option_is_explained(name: str) -> None:
    for key, kind, _, meaning in describe(schema_of(methods.find(name))):
        assert kind, key
        assert meaning, f"{name}: {key} has no line below Args:"


@pytest.mark.parametrize("name", NAMES)
def test_reports_know_the_method(name: str) -> None:
    """What a method says of itself is of things that exist: its terms, in some stage, and its options."""
    method, options = build(name), {row[0] for row in describe(schema_of(methods.find(name)))}
    logged: set[str] = set()
    for stage in method.stages:
        method.stage = stage
        logged |= set(method(batch_of(method), 0.5))
    assert method.title
    assert method.terms
    assert set(method.terms) <= logged - {"loss"}
    assert set(re.findall(r"--method\.(\w+)", " ".join(method.advice.values()))) <= options
    assert set(method.small) <= options


@pytest.mark.parametrize("name", NAMES)
def test_encoder_and_classes(name: str) -> None:
    method = build(name).eval()
    features: Tensor = method.encoder()(batch_of(method).views[0])
    assert features.shape == (12, method.encoder().width)
    assert len(method.embed(features)) == 12
    classes = method.classify(features)
    if classes is not None:
        torch.testing.assert_close(classes.sum(1), torch.ones(12))


@pytest.mark.parametrize("name", NAMES)
def test_losses_stay_in_float32_under_autocast(name: str) -> None:
    method = build(name)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert method(batch_of(method), 0.0)["loss"].dtype == torch.float32


def test_contract_is_checked_at_definition() -> None:
    with pytest.raises(TypeError, match="keyword-only"):

        class Positional(Method):  # pyright: ignore[reportUnusedClass]
            """A method whose option is positional."""

            def __init__(self, backbone: Any, width: int = 3) -> None: ...

            def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
                return {}

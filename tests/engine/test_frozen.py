"""A frozen network by onnxruntime: the same features, made once, and only where it is worth it."""

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import get_ident
from time import sleep
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from conftest import write_photos
from gemel import backbones
from gemel.data.batches import InferenceLoader
from gemel.data.normalise import Normalise
from gemel.data.sources import open_source
from gemel.engine import frozen as choice
from gemel.engine import onnx_graph
from gemel.engine.frozen import engine_for, frozen
from gemel.engine.onnx_graph import TOLERANCE, Graph


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "gemel" / "frozen"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Tensor:
    """35 photographs of 32 pixels, as networks are given them: channels last."""
    write_photos(tmp_path_factory.mktemp("photos"), 35)
    source = open_source(tmp_path_factory.getbasetemp() / "photos0")
    views = torch.cat([one for one, _ in InferenceLoader(source, size=32, glyph=False)])
    return Normalise([0.5] * 3, [0.5] * 3)(views)


def network(name: str = "convnet", seed: int = 0, **options: Any) -> nn.Module:
    torch.manual_seed(seed)
    return backbones.find(name, 32)(**options).eval()


def exported(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """A list that grows by each network that is exported."""
    seen: list[nn.Module] = []
    true = onnx_graph._exported

    def export(network: nn.Module, size: int) -> bytes:
        seen.append(network)
        return true(network, size)

    monkeypatch.setattr(onnx_graph, "_exported", export)
    return seen


def timed(monkeypatch: pytest.MonkeyPatch, torch_s: float, onnx_s: float) -> list[str]:
    """Have engines take these seconds an image; the list grows by each that is measured."""
    seen: list[str] = []

    def seconds(look: Any, images: Tensor) -> float:
        seen.append("onnxruntime" if isinstance(look, Graph) else "torch")
        assert look(images).shape[0] == choice.TRIAL
        return onnx_s if isinstance(look, Graph) else torch_s

    monkeypatch.setattr(choice, "_seconds", seconds)
    return seen


@torch.no_grad()
def assert_near(look: Any, network: nn.Module, images: Tensor) -> None:
    wanted, found = network(images), look(images)
    assert found.shape == wanted.shape
    assert float((found - wanted).abs().max()) <= TOLERANCE * float(wanted.abs().max())
    assert float(wanted.std()) > 0


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("convnet", {}),
        ("resnet18", {"stem": "small"}),
        ("tf_efficientnet_lite0", {}),
        ("vit_tiny_patch16_224", {"image_size": 32}),
        ("convnext_atto", {}),
    ],
)
def test_features_are_the_network_s(name: str, options: dict[str, Any], images: Tensor) -> None:
    made = network(name, **options)
    look = frozen(made, 32, engine="onnxruntime")
    assert isinstance(look, Graph)
    for count in (1, 16, 35):  # as many as go at once, fewer, and more
        assert_near(look, made, images[:count])


def test_the_network_is_left_as_it_was(images: Tensor) -> None:
    made = network()
    made.train()
    next(made.modules()).training = False
    before = {name: value.clone() for name, value in made.state_dict().items()}
    modes = [part.training for part in made.modules()]
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    assert isinstance(frozen(made, 32, engine="onnxruntime"), Graph)
    assert torch.equal(torch.rand(2), wanted), "nothing was drawn"
    assert [part.training for part in made.modules()] == modes
    assert all(one.requires_grad and one.is_leaf for one in made.parameters())
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())
    assert torch.is_grad_enabled()


def test_other_images_go_through_the_network(images: Tensor) -> None:
    made = network()
    look = frozen(made, 32, engine="onnxruntime")
    small = images[:4, :, :24, :24]
    with torch.no_grad():
        assert torch.equal(look(small), made(small))
        assert torch.equal(look(images[:0]), made(images[:0]))
        with torch.autocast("cpu"):
            assert look(images[:2]).dtype == torch.bfloat16


def test_four_channels() -> None:
    made = network("resnet18", in_channels=4)
    assert_near(frozen(made, 32, engine="onnxruntime"), made, torch.rand(3, 4, 32, 32))


def test_made_once(cache: Path, images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    made, seen = network(), exported(monkeypatch)
    for _ in range(2):
        assert_near(frozen(made, 32, engine="onnxruntime"), made, images)
    assert (len(seen), len(list(cache.iterdir()))) == (1, 1)
    other = network(seed=1)
    assert_near(frozen(other, 32, engine="onnxruntime"), other, images)
    assert isinstance(frozen(made, 48, engine="onnxruntime"), Graph)
    assert (len(seen), len(list(cache.iterdir()))) == (3, 3)
    assert isinstance(frozen(other, 48, engine="onnxruntime", keep=False), Graph)
    assert (len(seen), len(list(cache.iterdir()))) == (4, 3)


@pytest.mark.parametrize("harm", ["cut", "one bit", "nonsense", "empty", "folder"])
def test_a_damaged_graph_is_made_again(harm: str, cache: Path, images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    made = network()
    frozen(made, 32, engine="onnxruntime")
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    if harm == "cut":
        os.truncate(file, len(whole) // 2)
    elif harm == "one bit":
        file.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    elif harm == "folder":
        file.unlink()
        file.mkdir()
    else:
        file.write_bytes(b"nonsense" if harm == "nonsense" else b"")
    seen = exported(monkeypatch)
    assert_near(frozen(made, 32, engine="onnxruntime"), made, images)
    assert len(seen) == 1
    assert harm == "folder" or file.read_bytes()[:32] == whole[:32]


class Scaled(nn.Module):
    """Of the same tensors and the same look, whatever it multiplies by."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.network, self.factor = network(), factor

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images) * self.factor


def test_a_graph_of_another_network_of_the_same_tensors_is_not_taken(images: Tensor) -> None:
    for factor in (1.0, 2.0, 1.0):
        made = Scaled(factor).eval()
        look = frozen(made, 32, engine="onnxruntime")
        assert isinstance(look, Graph)
        assert_near(look, made, images)


class Untraceable(nn.Module):
    """Draws its features with an operator that no graph has."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)

    def forward(self, images: Tensor) -> Tensor:
        return torch.special.bessel_j0(self.layer(images.mean((2, 3))))


class ByCount(nn.Module):
    """What it gives depends on how many images there are: a trace knows one count alone."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images.mean((2, 3))) * len(images)


class Copyless(Untraceable):
    """It can't be copied."""

    def __deepcopy__(self, memo: Any) -> "Copyless":
        raise TypeError("no copies")


@pytest.mark.parametrize("kind", [Untraceable, ByCount, Copyless])
def test_what_has_no_graph_is_run_by_torch(
    kind: type[nn.Module], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = kind().eval()
    with caplog.at_level(logging.DEBUG, "gemel"):
        assert frozen(made, 16, engine="onnxruntime") is made
    assert "torch runs the network, as onnxruntime can't" in caplog.text
    seen, measured = exported(monkeypatch), timed(monkeypatch, 1.0, 0.1)
    assert {engine_for(made, 16) for _ in range(3)} == {"torch"}
    assert (len(seen), measured) == ((0, []) if kind is Copyless else (1, ["torch"])), "tried once"


def test_a_wrong_graph_is_refused(images: Tensor, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    made, other = network(), network()
    with torch.no_grad():
        next(other.parameters()).mul_(1.001)
    true = onnx_graph._exported
    monkeypatch.setattr(onnx_graph, "_exported", lambda network, size: true(other, size))
    assert frozen(made, 32, engine="onnxruntime") is made
    assert not cache.exists()


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_without_its_packages(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = timed(monkeypatch, 1.0, 0.1)
    monkeypatch.setitem(sys.modules, package, None)
    made = network()
    assert engine_for(made, 32) == "torch"
    assert frozen(made, 32) is made
    assert not measured


def test_the_faster_one_is_chosen_and_remembered(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, seen, measured = network(), exported(monkeypatch), timed(monkeypatch, 0.02, 0.005)
    assert engine_for(made, 32, images=64) == "torch"
    assert (seen, measured, cache.exists()) == ([], [], False), "few images"
    assert engine_for(made, 32, images=150) == "torch"
    assert (len(seen), measured) == (0, ["torch"]), "three seconds"
    assert engine_for(made, 32, images=1000) == "onnxruntime"
    assert (len(seen), measured) == (1, ["torch", "onnxruntime"])
    assert engine_for(network(seed=1), 32, images=1000) == "onnxruntime", "whatever the tensors"
    assert engine_for(made, 32) == "onnxruntime"
    assert isinstance(frozen(made, 32), Graph)
    assert (len(seen), measured) == (1, ["torch", "onnxruntime"])
    assert engine_for(made, 32, images=210) == "onnxruntime", "three seconds are gained, and the graph is there"
    assert engine_for(made, 48, images=1000) == "onnxruntime"
    assert measured == ["torch", "onnxruntime"] * 2, "another size is another question"


GAINS = [(0.03, None, "torch"), (0.02, None, "torch"), (0.019, 1000, "torch"), (0.019, 3000, "onnxruntime")]


@pytest.mark.parametrize(("onnx_s", "images", "engine"), GAINS)
def test_the_gain_must_pay(onnx_s: float, images: int | None, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    timed(monkeypatch, 0.02, onnx_s)
    assert engine_for(network(), 32, images=images, keep=False) == engine


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"torch": "fast"}', '{"torch": null}'])
def test_damaged_notes(content: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timed(monkeypatch, 0.02, 0.005)
    made = network()
    assert engine_for(made, 32) == "onnxruntime"
    (file,) = cache.glob("*.json")
    file.write_text(content)
    assert engine_for(made, 32) == ("torch" if "null" in content else "onnxruntime")


def test_where_nothing_can_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer could be another one tomorrow: features would differ in the last digits."""
    timed(monkeypatch, 1.0, 0.1)
    made = network()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert engine_for(made, 32) == "torch"
    assert isinstance(frozen(made, 32, engine="onnxruntime"), Graph), "asked for, it is made nevertheless"
    monkeypatch.setattr(choice, "cache_folder", lambda: None)
    assert engine_for(made, 32) == "torch"


def test_other_homes_than_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = timed(monkeypatch, 1.0, 0.1)
    assert engine_for(nn.Flatten(), 32) == engine_for(network().double(), 32) == "torch"
    monkeypatch.setattr(choice, "device", lambda: torch.device("cuda"))
    assert engine_for(network(), 32) == "torch"
    assert not measured


def test_the_cache_does_not_grow_for_ever(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frozen(network(), 32, engine="onnxruntime")
    (first,) = cache.iterdir()
    monkeypatch.setattr(onnx_graph, "KEPT_BYTES", int(2.5 * first.stat().st_size))
    for seed in (1, 2):
        frozen(network(seed=seed), 32, engine="onnxruntime")
    frozen(network(), 32, engine="onnxruntime")  # used, and so the youngest
    for seed, count in ((3, 3), (4, 3)):
        frozen(network(seed=seed), 32, engine="onnxruntime")
        assert len(list(cache.iterdir())) == count
    assert first.is_file()


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_as_many_threads_as_torch(two_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    look: Any = frozen(network(), 32, engine="onnxruntime")
    images, seen = onnx_graph.random_images(network(), 24, 32), dict[int, list[int]]()
    run = onnx_graph._run

    def noted(session: Any, part: Tensor) -> Any:
        seen.setdefault(get_ident(), []).append(len(part))
        sleep(0.05)  # so that one thread can't do it all
        return run(session, part)

    monkeypatch.setattr(onnx_graph, "_run", noted)
    features = look(images)
    assert len(seen) == 2
    assert sorted(length for lengths in seen.values() for length in lengths) == [8, 8, 8]
    torch.set_num_threads(1)
    assert torch.equal(look(images), features)
    torch.set_num_threads(2)
    monkeypatch.setattr(onnx_graph, "_run", run)
    measured = timed(monkeypatch, 1.0, 0.1)
    engine_for(network(), 32)
    torch.set_num_threads(1)
    engine_for(network(), 32)
    assert measured == ["torch", "onnxruntime"] * 2


def test_seconds_are_an_image_s() -> None:
    """No clock is trusted: only that what takes longer is told to."""
    made, images = network("resnet18"), torch.rand(2, 3, 32, 32)
    calls: list[int] = []

    def slow(one: Tensor) -> Tensor:
        calls.append(len(one))
        return made(one)

    assert choice._seconds(slow, images) > 0
    assert 1 <= len(calls) <= 5
    assert set(calls) == {2}

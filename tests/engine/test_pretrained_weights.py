"""--weights: a backbone's tensors are found in what other programs save, by names, shapes and order; no code is run."""

from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import densenet121, resnet18

from gemel import backbones
from gemel.backbones.base import Backbone
from gemel.backbones.torchvision import torchvision_backbone
from gemel.engine.checkpoints import read_tensors
from gemel.engine.pretrained_weights import start_from
from gemel.errors import UserError

Tensors = dict[str, Tensor]


@pytest.fixture(scope="module")
def own() -> Tensors:
    """A ResNet-18 by torchvision's names, which are timm's too."""
    torch.manual_seed(1)
    return {name: value for name, value in resnet18().state_dict().items() if not name.startswith("fc.")}


@pytest.fixture(scope="module")
def other() -> Tensors:
    """Of the same names and shapes, with other numbers: a student, a key encoder."""
    torch.manual_seed(2)
    return {name: value for name, value in resnet18().state_dict().items() if not name.startswith("fc.")}


def below(prefix: str, tensors: Tensors) -> Tensors:
    return {prefix + name: value for name, value in tensors.items()}


def head(prefix: str) -> Tensors:
    return {f"{prefix}weight": torch.ones(7, 512), f"{prefix}bias": torch.ones(7)}


def numbered(tensors: Tensors) -> Tensors:
    """By the names that `nn.Sequential(*list(resnet.children())[:-1])` gives, as lightly's examples save it."""
    places = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6, "layer4": 7}
    return {f"{places[(parts := name.partition('.'))[0]]}.{parts[2]}": value for name, value in tensors.items()}


def optimizer(tensors: Tensors) -> dict[str, Any]:
    """Momenta have the weights' shapes in the weights' order."""
    return {
        "state": {number: {"exp_avg": value * 0} for number, value in enumerate(tensors.values())},
        "param_groups": [],
    }


FILES: dict[str, Callable[[Tensors, Tensors], Any]] = {
    "plain, with a classifier": lambda own, other: own | head("fc."),
    "Parameters in order": lambda own, other: OrderedDict(
        (name, nn.Parameter(one, False)) for name, one in own.items()
    ),
    "moco": lambda own, other: {
        "epoch": 1,
        "arch": "resnet18",
        "state_dict": below("module.encoder_k.", other)
        | below("module.encoder_q.", own)
        | head("module.encoder_q.fc.")
        | {"module.queue": torch.randn(128, 64)},
        "optimizer": optimizer(other),
    },
    "moco v3": lambda own, other: {
        "state_dict": below("module.momentum_encoder.", other) | below("module.base_encoder.", own)
    },
    "simsiam": lambda own, other: {"state_dict": below("module.encoder.", own) | head("module.predictor.")},
    "dino": lambda own, other: {
        "student": below("module.backbone.", other) | head("module.head.last_layer."),
        "teacher": below("backbone.", own) | head("head.last_layer."),
        "optimizer": optimizer(other),
        "args": Namespace(arch="resnet18"),
        "dino_loss": {"center": torch.zeros(1, 9)},
        "epoch": 3,
    },
    "ema of timm": lambda own, other: {"state_dict": other, "state_dict_ema": own, "metric": np.float64(0.7)},
    "vissl": lambda own, other: {
        "phase_idx": 2,
        "classy_state_dict": {
            "base_model": {"model": {"trunk": below("_feature_blocks.", own), "heads": head("0.clf.")}, "meta": {}}
        },
    },
    "swav": lambda own, other: below("module.", own) | head("module.prototypes."),
    "compiled": lambda own, other: below("_orig_mod.", own),
    "compiled in a method": lambda own, other: {"model": below("backbone._orig_mod.", own) | head("head.")},
    "compiled parts": lambda own, other: {name.replace("layer2.", "layer2._orig_mod."): own[name] for name in own},
    "parallel parts": lambda own, other: {name.replace("layer3.", "layer3.module."): own[name] for name in own},
    "lightning": lambda own, other: {
        "state_dict": below("model.backbone.", own),
        "pytorch-lightning_version": "2",
        "optimizer_states": [optimizer(other)],
    },
    "byol": lambda own, other: below("online_network.encoder.", own) | below("target_network.encoder.", other),
    "lightly": lambda own, other: {"state_dict": below("backbone.", numbered(own)) | head("projection_head.layers.0.")},
    "lightly with a teacher": lambda own, other: below("student.", numbered(other)) | below("teacher.", numbered(own)),
    "numbered": lambda own, other: numbered(own),
    "a checkpoint of gemel": lambda own, other: {
        "name": "twist",
        "method": below("backbone.network.", other) | below("teacher.networks.0.network.", own),
    },
    "before counters": lambda own, other: {name: own[name] for name in own if "num_batches" not in name},
    "numbered, before counters": lambda own, other: numbered(
        {name: own[name] for name in own if "num_batches" not in name}
    ),
    "half": lambda own, other: {name: one.bfloat16() if one.is_floating_point() else one for name, one in own.items()},
}


@pytest.mark.parametrize("kind", FILES)
def test_files_of_other_programs(kind: str, own: Tensors, other: Tensors, tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    torch.save(FILES[kind](own, other), file)
    backbone = backbones.find("resnet18", 32)()
    start_from(backbone, file)
    for name, value in backbone.network.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            wanted = own[name].bfloat16().float() if kind == "half" else own[name]
            assert torch.equal(value, wanted), name


def test_it_is_told_where_they_were_found(own: Tensors, other: Tensors, tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    for kind, told in (
        ("plain, with a classifier", "by their own names"),
        ("moco", "below the prefix state_dict.module.encoder_q."),
        ("lightly", "in their order, from state_dict.backbone.0.weight on"),
    ):
        torch.save(FILES[kind](own, other), file)
        assert start_from(backbones.find("resnet18", 32)(), file) == told


def test_a_transformer(tmp_path: Path) -> None:
    torch.manual_seed(1)
    source = backbones.find("test_vit", 32)().network.state_dict()
    save_file(below("encoder.", dict(source)), tmp_path / "weights.safetensors")
    backbone = backbones.find("test_vit", 32)()
    start_from(backbone, tmp_path / "weights.safetensors")
    assert all(torch.equal(source[name], value) for name, value in backbone.network.state_dict().items())


def test_names_of_another_version(tmp_path: Path) -> None:
    """torchvision wrote `norm.1` where it has `norm1` now."""
    torch.manual_seed(1)
    source = densenet121()
    renamed = {
        name.replace(".norm1.", ".norm.1.").replace(".norm2.", ".norm.2.").replace(".conv1.", ".conv.1."): value
        for name, value in source.state_dict().items()
    }
    torch.save(renamed, tmp_path / "weights.pth")
    backbone = torchvision_backbone("densenet121", 32)
    start_from(backbone, tmp_path / "weights.pth")
    images = torch.randn(1, 3, 32, 32)
    source.classifier = nn.Identity()
    torch.testing.assert_close(backbone.eval()(images), source.eval()(images))


def rotated(tensors: Tensors) -> Tensors:
    """The tensors in another order, under names that say nothing."""
    items = list(tensors.items())
    return {f"{name.replace('.', '_')}.weight": value for name, value in items[6:] + items[:6]}


MISFITS: dict[str, tuple[Callable[[Tensors], Any], str]] = {
    "lacks one": (
        lambda own: {"state_dict": {name: own[name] for name in own if name != "layer1.0.conv1.weight"}},
        r"layer1\.0\.conv1\.weight is missing; choose the --backbone",
    ),
    "of another shape": (
        lambda own: below("module.", own | {"layer1.0.conv1.weight": torch.zeros(3, 64, 3, 3)}),
        r"layer1\.0\.conv1\.weight is \(3, 64, 3, 3\), not \(64, 64, 3, 3\)",
    ),
    "renamed in part": (
        lambda own: {name.replace("layer4.", "stage4."): value for name, value in reversed(own.items())},
        r"layer4\.0\.conv1\.weight is missing, .* and 22 more; it holds stage4\.1\..* as well",
    ),
    "other names": (
        rotated,
        r"it holds .*_weight\.weight, .* more; the network has conv1\.weight, bn1\.weight, bn1\.bias and \d+ more",
    ),
    "nothing": (lambda own: {"epoch": 3, "args": {"lr": 0.1}}, "it holds no tensors"),
    "NaN": (
        lambda own: own | {"conv1.weight": own["conv1.weight"] * float("nan")},
        r"holds NaN or infinite values \(conv1\.weight\); take another file",
    ),
    "infinite": (
        lambda own: own | {"bn1.running_var": own["bn1.running_var"] / 0},
        r"infinite values \(bn1\.running_var\)",
    ),
    "a list": (lambda own: [own], "holds a list, not a dictionary of tensors"),
    "arrays": (lambda own: {name: value.numpy() for name, value in own.items()}, "it holds NumPy arrays; save tensors"),
    "a network": (
        lambda own: nn.Linear(2, 2),
        r"it holds torch\.nn\.modules\.linear\.Linear, which would have to be run",
    ),
}


@pytest.mark.parametrize("kind", MISFITS)
def test_what_does_not_fit_is_told_in_one_sentence(kind: str, own: Tensors, tmp_path: Path) -> None:
    make, told = MISFITS[kind]
    torch.save(make(own), tmp_path / "weights.pth")
    backbone = backbones.find("resnet18", 32)()
    before = {name: value.clone() for name, value in backbone.network.state_dict().items()}
    with pytest.raises(UserError, match=told) as raised:
        start_from(backbone, tmp_path / "weights.pth")
    message = str(raised.value)
    assert "\n" not in message and "\x1b" not in message and "weights_only" not in message and len(message) < 900
    assert all(torch.equal(before[name], value) for name, value in backbone.network.state_dict().items())


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"hello", "it is not a file that torch.save wrote"),
        (b"", "it is not a file that torch.save wrote"),
        (b"PK\x03\x04 and no more", "it is damaged or cut short"),
        (b"\x80\x02}q\x00.", "it is not a file that torch.save wrote"),
    ],
)
def test_other_files(content: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(content)
    with pytest.raises(UserError, match=told) as raised:
        start_from(backbones.find("convnet")(), tmp_path / "weights.pth")
    assert len(raised.value.mistakes) == 1 and "\n" not in str(raised.value)


def test_a_damaged_file_is_told_whatever_its_bytes(tmp_path: Path) -> None:
    random, file = np.random.default_rng(0), tmp_path / "weights.pth"
    bases = list[bytes]()
    for zipped in (True, False):
        torch.save({"a": torch.ones(3), "b": {"c": torch.ones(2, 2)}}, file, _use_new_zipfile_serialization=zipped)
        bases.append(file.read_bytes())
    told = list[str]()
    for number in range(300):
        damaged = bytearray(bases[number % 2])
        for place in random.integers(0, len(damaged), 4):
            damaged[place] = int(random.integers(256))
        file.write_bytes(bytes(damaged[: int(random.integers(1, len(damaged) + 1))]) if number % 3 else bytes(damaged))
        try:
            read_tensors(file)
        except UserError as error:
            told.append(str(error))
    assert len(told) > 100
    assert not [one for one in told if "\n" in one or "\x1b" in one]


def test_a_convnet_of_the_same_shapes_in_another_order_is_not_taken(tmp_path: Path) -> None:
    """Shapes alone do not make a match: modules have to correspond one to one."""
    backbone: Backbone = backbones.find("convnet")(widths=(8, 8), strides=(2, 2))
    names = list(backbone.network.state_dict())
    mixed = dict(
        zip([name.replace("1.bias", "0.bias") for name in names], backbone.network.state_dict().values(), strict=True)
    )
    torch.save({f"x{name}": value for name, value in mixed.items()}, tmp_path / "weights.pth")
    with pytest.raises(UserError, match="does not fit the network"):
        start_from(backbone, tmp_path / "weights.pth")

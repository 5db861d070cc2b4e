"""Released checkpoints of the relatives: the authors' modules on small networks, as their code saves them, to runs."""

from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

import gemel
from gemel import backbones
from gemel.backbones.lab_resnet import lab_resnet
from gemel.backbones.vit_sine import vit_sine
from gemel.engine.checkpoints import load_backbone
from gemel.engine.pretrained_weights import start_from
from gemel.errors import UserError
from gemel.exchange.official import renamed
from gemel.training.build import load_method

State = dict[str, Any]


def resnet(**head: nn.Module) -> nn.Module:
    """torchvision's network with another head in the place of fc, or under another name."""
    network: Any = torchvision.models.resnet18()
    network.fc = nn.Identity()
    for name, module in head.items():
        setattr(network, name, module)
    return network


def mlp(*widths: int, norm: bool = True, bias: bool = True, last: bool = False) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after, bias=bias), *([nn.BatchNorm1d(after)] if norm else []), nn.ReLU()]
    layers = layers[: -2 if norm else -1]
    return nn.Sequential(*layers, *([nn.BatchNorm1d(widths[-1], affine=False)] if last else []))


class Holder(nn.Module):
    """Modules and buffers by name."""

    def __init__(self, modules: Mapping[str, nn.Module], buffers: Mapping[str, Tensor] | None = None) -> None:
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)
        for name, tensor in (buffers or {}).items():
            self.register_buffer(name, tensor)


def saved(model: nn.Module, prefix: str = "module.") -> State:
    """Statistics that tell one tensor from another, names as DDP's."""
    with torch.no_grad():
        for name, tensor in model.named_buffers():
            if name.endswith("running_mean"):
                tensor.normal_()
    return {f"{prefix}{name}": tensor.clone() for name, tensor in model.eval().state_dict().items()}


class Case:
    """A file, and what the run must give: features of images, embeddings of features."""

    def __init__(self, content: State, features: Callable[[Tensor], Tensor], embed: Callable[[Tensor], Tensor]) -> None:
        self.content, self.features, self.embed = content, features, embed
        self.options: State = {}
        self.also: Mapping[str, Tensor] = {}


def moco_v2() -> Case:
    networks = [resnet(fc=mlp(512, 512, 16, norm=False)) for _ in range(2)]
    queue = {"queue": torch.randn(16, 40), "queue_ptr": torch.tensor([8])}
    model = Holder({"encoder_q": networks[0], "encoder_k": networks[1]}, queue)
    case = Case({"epoch": 3, "arch": "resnet18", "state_dict": saved(model)}, headless(networks[0]), networks[0].fc)
    case.options = {"projector": [512, 16], "queue": 40}
    case.also = {"queues.0.rows": queue["queue"], "queues.0.pointer": torch.tensor(8)}
    case.also |= {"teacher.networks.0.network.conv1.weight": networks[1].conv1.weight}
    return case


def moco_v1() -> Case:
    """Its head is one linear layer."""
    networks = [resnet(fc=nn.Linear(512, 16)) for _ in range(2)]
    queue = {"queue": torch.randn(16, 40), "queue_ptr": torch.tensor([0])}
    model = Holder({"encoder_q": networks[0], "encoder_k": networks[1]}, queue)
    case = Case({"state_dict": saved(model)}, headless(networks[0]), networks[0].fc)
    case.options = {"projector": [16]}
    return case


def moco_v3() -> Case:
    networks = [resnet(fc=mlp(512, 24, 16, bias=False, last=True)) for _ in range(2)]
    parts = {"base_encoder": networks[0], "momentum_encoder": networks[1], "predictor": mlp(16, 24, 16, bias=False)}
    case = Case({"epoch": 3, "state_dict": saved(Holder(parts))}, headless(networks[0]), networks[0].fc)
    case.options = {"hidden": 24, "width": 16, "form": "resnet"}
    case.also = {"teacher.networks.1.3.weight": networks[1].fc[3].weight}
    return case


def moco_v3_vit() -> Case:
    """With fixed positions among the parameters, and 12 attention heads that no shape tells."""
    networks: list[Any] = []
    for _ in range(2):
        network: Any = timm.create_model("vit_small_patch16_224", num_heads=12, num_classes=0, img_size=32)
        network.head = mlp(384, 24, 24, 16, bias=False, last=True)
        networks.append(network)
    parts = {"base_encoder": networks[0], "momentum_encoder": networks[1]}
    parts["predictor"] = mlp(16, 24, 16, bias=False, last=True)

    def features(images: Tensor) -> Tensor:
        return networks[0].forward_head(networks[0].forward_features(images), pre_logits=True)

    case = Case({"epoch": 3, "state_dict": saved(Holder(parts))}, features, networks[0].head)
    case.options = {"form": "transformer", "recipe": "vit_small"}
    return case


def simsiam() -> Case:
    encoder: Any = resnet(fc=mlp(512, 512, 512, 16, bias=False, last=True))
    encoder.fc[6] = nn.Linear(512, 16)  # with a bias that does not learn
    layers = [nn.Linear(16, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 16)]
    model = Holder({"encoder": encoder, "predictor": nn.Sequential(*layers)})
    case = Case({"state_dict": saved(model)}, headless(encoder), encoder.fc)
    case.options = {"projector": [512, 512, 16], "predictor": 8}
    case.also = {"predictor.3.bias": model.predictor[3].bias}
    return case


def swav() -> Case:
    network: Any = resnet(projection_head=mlp(512, 24, 16), prototypes=nn.Linear(16, 30, bias=False))
    plain = resnet()

    def embed(rows: Tensor) -> Tensor:
        return nn.functional.normalize(network.projection_head(rows))

    content = saved(network)
    plain.load_state_dict({name.removeprefix("module."): one for name, one in content.items() if "pro" not in name})
    case = Case(content, plain.eval(), embed)
    case.options = {"projector": [24, 16], "prototypes": 30}
    case.also = {"prototypes.weight": network.prototypes.weight}
    return case


class Head(nn.Module):
    """DINO's, whose last layer has torch's weight norm."""

    def __init__(self, *widths: int, scaled: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in pairwise(widths[:-1]):
            layers += [nn.Linear(before, after), nn.GELU()]
        self.mlp = nn.Sequential(*layers[:-1])
        self.last_layer = nn.Module()
        scale = torch.rand(widths[-1], 1) + 0.5 if scaled else torch.ones(widths[-1], 1)
        self.last_layer.weight_g = nn.Parameter(scale)
        self.last_layer.weight_v = nn.Parameter(torch.randn(widths[-1], widths[-2]))

    def forward(self, rows: Tensor) -> Tensor:
        rows = nn.functional.normalize(self.mlp(rows))
        return rows @ torch._weight_norm(self.last_layer.weight_v, self.last_layer.weight_g, 0).T


def dino(scaled: bool = False) -> Case:
    """Both networks; of the teacher's, which is kept, the names have no prefix."""
    student, teacher = (Holder({"backbone": resnet(), "head": Head(512, 24, 16, 30, scaled=scaled)}) for _ in range(2))
    center = torch.randn(1, 30)
    content = {"student": saved(student), "teacher": saved(teacher, ""), "epoch": 3, "dino_loss": {"center": center}}
    case = Case(content, teacher.backbone, teacher.head)
    case.options = {"prototypes": 30, "hidden": 24, "bottleneck": 16, "layers": 2, "norm": False, "scaled": scaled}
    case.also = {"center": center[0], "backbone.network.conv1.weight": student.backbone.conv1.weight}
    return case


def vicreg() -> Case:
    projector = mlp(512, 24, 24, 16)
    projector[6] = nn.Linear(24, 16, bias=False)
    model = Holder({"backbone": resnet(), "projector": projector})
    case = Case({"epoch": 3, "model": saved(model)}, model.backbone, projector)
    case.options = {"projector": [24, 24, 16]}
    return case


def densecl() -> Case:
    def neck() -> nn.Module:
        dense = nn.Sequential(nn.Conv2d(512, 24, 1), nn.ReLU(), nn.Conv2d(24, 16, 1))
        return Holder({"mlp": mlp(512, 24, 16, norm=False), "mlp2": dense})

    encoders = [nn.Sequential(resnet(), neck()) for _ in range(2)]
    for encoder in encoders:
        del encoder[0].fc
    buffers = {"queue": torch.randn(16, 40), "queue_ptr": torch.tensor([8])}
    buffers |= {"queue2": torch.randn(16, 40), "queue2_ptr": torch.tensor([8])}
    model = Holder({"encoder_q": encoders[0], "encoder_k": encoders[1], "backbone": encoders[0][0]}, buffers)
    content = saved(model, "")
    for encoder in encoders:
        encoder[0].fc = nn.Identity()
    case = Case({"meta": {"epoch": 3}, "state_dict": content}, encoders[0][0], encoders[0][1].mlp)
    case.options = {"projector": [24, 16], "queue": 40}
    case.also = {"head.dense.2.weight": encoders[0][1].mlp2[2].weight, "dense_queue.rows": buffers["queue2"]}
    return case


def cmc() -> Case:
    """Two networks of half the width; the banks are left out, their constants are kept."""
    backbone = lab_resnet(depth=18, width=0.5)
    halves: Any = backbone.network
    for half in (halves.l_to_ab, halves.ab_to_l):
        half.fc = nn.Linear(256, 16)
    content = {"model": saved(halves), "epoch": 3}
    heads = [halves.l_to_ab.fc, halves.ab_to_l.fc]
    halves.l_to_ab.fc = halves.ab_to_l.fc = nn.Identity()
    content["contrast"] = {"params": torch.tensor([4096.0, 0.07, 300.0, 500.0, 0.5]), "memory_l": torch.randn(9, 16)}

    def embed(rows: Tensor) -> Tensor:
        parts = [nn.functional.normalize(head(part)) for head, part in zip(heads, rows.chunk(2, 1), strict=True)]
        return torch.cat(parts, 1)

    case = Case(content, backbone.eval(), embed)
    case.options, case.also = {"width": 16, "recipe": "resnet50_half"}, {"constants": torch.tensor([300.0, 500.0])}
    return case


def headless(network: Any) -> Callable[[Tensor], Tensor]:
    def features(images: Tensor) -> Tensor:
        head, network.fc = network.fc, nn.Identity()
        try:
            return network(images)
        finally:
            network.fc = head

    return features


CASES: dict[str, Callable[[], Case]] = {
    one.__name__: one for one in (moco_v2, moco_v1, moco_v3, moco_v3_vit, simsiam, swav, dino, vicreg, densecl, cmc)
}


@torch.no_grad()
@pytest.mark.parametrize("name", CASES)
def test_a_released_checkpoint_becomes_a_run(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    case = CASES[name]()
    torch.save(case.content, tmp_path / "checkpoint.pth")
    run = gemel.import_official(tmp_path / "checkpoint.pth", tmp_path / "run")
    assert run.method_name == {"moco_v1": "moco_v2", "moco_v3_vit": "moco_v3"}.get(name, name)
    images = torch.randn(2, 3, 32, 32)
    features = case.features(images)
    torch.testing.assert_close(load_backbone(run)(images), features, rtol=1e-4, atol=1e-5)
    method = load_method(run)
    torch.testing.assert_close(method.encoder()(images), features, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(method.embed(features), case.embed(features), rtol=1e-4, atol=1e-5)
    options = run.settings["method"]
    assert {key: options[key] for key in case.options} == case.options
    own = method.state_dict()
    for key, value in case.also.items():
        assert torch.equal(own[key], value), key
    with pytest.raises(UserError, match=r"imported from checkpoint\.pth"):
        gemel.resume(run)
    with pytest.raises(UserError, match="gemel writes no official layout of"):
        gemel.export(run, "official")


@pytest.mark.parametrize("name", ["moco_v2", "moco_v3", "simsiam", "swav", "dino", "vicreg", "densecl"])
def test_weights_take_the_network_that_the_paper_evaluates(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    case = CASES[name]()
    torch.save(case.content, tmp_path / "checkpoint.pth")
    backbone = backbones.find("resnet18")()
    start_from(backbone, tmp_path / "checkpoint.pth")
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(backbone.eval()(images), case.features(images), rtol=1e-4, atol=1e-5)


def test_weights_of_networks_of_their_own(tmp_path: Path) -> None:
    for name, backbone in (("moco_v3_vit", vit_sine(image_size=32)), ("cmc", lab_resnet(depth=18, width=0.5))):
        torch.manual_seed(0)
        case = CASES[name]()
        torch.save(case.content, tmp_path / f"{name}.pth")
        start_from(backbone, tmp_path / f"{name}.pth")
        images = torch.randn(2, 3, 32, 32)
        with torch.no_grad():
            torch.testing.assert_close(backbone.eval()(images), case.features(images), rtol=1e-4, atol=1e-5)


def test_learned_lengths_of_prototypes_are_seen(tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save(dino(scaled=True).content, tmp_path / "a.pth")
    assert gemel.import_official(tmp_path / "a.pth", tmp_path / "run").settings["method"]["scaled"] is True


def test_files_that_are_refused(tmp_path: Path) -> None:
    def told(content: State, match: str) -> None:
        torch.save(content, tmp_path / "a.pth")
        with pytest.raises(UserError, match=match):
            gemel.import_official(tmp_path / "a.pth", tmp_path / "run")
        assert not (tmp_path / "run").exists()

    torch.manual_seed(0)
    whole = moco_v3().content
    more = whole["state_dict"] | {"module.other.weight": torch.zeros(1)}
    told(whole | {"state_dict": more}, r"other\.weight, which is no part of moco_v3's released model")
    fewer = {name: one for name, one in whole["state_dict"].items() if not name.endswith("predictor.0.weight")}
    told(whole | {"state_dict": fewer}, r"predictor\.0\.weight is missing")
    lacking = dino().content
    del lacking["dino_loss"]
    told(lacking, "holds no centre")


def test_no_two_layouts_take_the_same_file() -> None:
    torch.manual_seed(0)
    for name, make in CASES.items():
        content = make().content
        found = next((content[key] for key in ("model", "state_dict", "student") if key in content), content)
        names = {str(one).removeprefix("module.") for one in found}
        fitting = [one.method for one in renamed.LAYOUTS if one.fits(dict.fromkeys(names, torch.zeros(0)))]
        assert fitting[0] == {"moco_v1": "moco_v2", "moco_v3_vit": "moco_v3"}.get(name, name), name

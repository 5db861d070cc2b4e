"""DenseCL against the authors' code: matches, both losses, queues, the head."""

import pytest
import torch
from torch import Tensor
from toy import PRECISIONS, Golden, load, near

from gemel.backbones.convnet import convnet
from gemel.data.batches import Batch
from gemel.methods.densecl import DenseCl, DenseHead, densecl_loss, matched
from gemel.methods.moco_v2 import moco_v2_loss
from gemel.methods.parts.contrast import unit
from gemel.methods.parts.queue import Queue


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_two_steps(relatives: Golden, dtype: torch.dtype, tolerance: float) -> None:
    queues = [Queue(16, 72).to(dtype) for _ in range(2)]
    for queue, name in zip(queues, ("queue0", "dense_queue0"), strict=True):
        queue.rows.copy_(relatives[f"densecl.{name}"])
    options = {"temperature": float(relatives["densecl.temperature"])}
    options["dense_weight"] = float(relatives["densecl.lambda_dense"])
    for step in range(2):
        names = ("q", "k", "q_grid", "k_grid", "k_pooled", "f_q", "f_k")
        rows = [relatives[f"densecl.{name}"][step].to(dtype, copy=True).requires_grad_() for name in names]
        query, key, query_grid, key_grid, pooled, *maps = rows
        match = matched(*(one.flatten(2) for one in maps))
        assert torch.equal(match, relatives["densecl.match"][step])
        vectors = (query, key, query_grid, key_grid, match)
        terms = densecl_loss(*vectors, *(queue.rows for queue in queues), **options)
        terms["loss"].backward()
        for name, golden in (("single", "loss_single"), ("dense", "loss_dense"), ("loss", "loss")):
            near(terms[name], relatives[f"densecl.{golden}"][step], tolerance, golden)
        near(query.grad, relatives["densecl.grad_q"][step], tolerance)
        near(query_grid.grad, relatives["densecl.grad_q_grid"][step], tolerance)
        assert all(one.grad is None for one in (key, key_grid, *maps))
        for queue, keys, name in zip(queues, (key, pooled), ("queue", "dense_queue"), strict=True):
            queue.push(unit(keys.detach()))
            near(queue.rows, relatives[f"densecl.{name}"][step], tolerance, name)
            assert int(queue.pointer) == int(relatives["densecl.ptr"][step])


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_head(relatives: Golden, dtype: torch.dtype, tolerance: float) -> None:
    head = DenseHead(20, 20, (24, 16)).to(dtype)
    golden = {key: value for key, value in relatives.items() if key.startswith("densecl.neck.mlp")}
    load(head, golden, "densecl.neck", {"mlp.": "mlp.", "dense.": "mlp2."})
    found = relatives["densecl.neck.f"].to(dtype)
    single, grid = head(found.mean((2, 3)), found)
    near(single, relatives["densecl.neck.single"], tolerance)
    near(grid, relatives["densecl.neck.grid"], tolerance)
    near(grid.mean(2), relatives["densecl.neck.pooled"], tolerance)


def inputs(cells: int = 9) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((6, 5), (6, 5), (6, 5, cells), (6, 5, cells))
    rows = [torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in shapes]
    queues = [unit(torch.randn(12, 5, generator=generator, dtype=torch.float64)).T for _ in range(2)]
    match = torch.randint(cells, (6, cells), generator=generator)
    return [*rows, match, *queues]


def test_at_its_ends_it_is_moco() -> None:
    query, key, query_grid, key_grid, match, queue, dense_queue = inputs(cells=1)
    expected = moco_v2_loss(query, key, queue)["loss"]
    terms = densecl_loss(query, key, query_grid, key_grid, match, queue, dense_queue, dense_weight=0.0)
    torch.testing.assert_close(terms["loss"], expected)
    expected = moco_v2_loss(query_grid[..., 0], key_grid[..., 0], dense_queue)["loss"]
    terms = densecl_loss(query, key, query_grid, key_grid, match, queue, dense_queue, dense_weight=1.0)
    torch.testing.assert_close(terms["loss"], expected)


def test_matches() -> None:
    generator = torch.Generator().manual_seed(0)
    one, two = torch.randn(2, 6, 5, 9, generator=generator)
    assert torch.equal(matched(one, one), torch.arange(9).expand(6, -1))
    lengths = torch.rand(6, 1, 9, generator=generator) + 0.1
    assert torch.equal(matched(one * lengths, two / lengths), matched(one, two))
    assert matched(one, two[..., :4]).max() < 4


def test_shapes_that_do_not_fit() -> None:
    query, key, query_grid, key_grid, match, *queues = inputs()
    with pytest.raises(ValueError, match=r"grids \(n, D, S\) and a match \(n, S\)"):
        densecl_loss(query, key, query_grid, key_grid[:, :3], match, *queues)


def test_method_takes_the_backbone_s_last_map() -> None:
    torch.manual_seed(0)
    backbone = convnet(widths=(8, 6), strides=(2, 2), pool=1)
    assert backbone.map_channels() == [8, 6]
    method = DenseCl(backbone, projector=(16, 4), queue=12, groups=2)
    view = torch.randn(4, 3, 16, 16)
    batch = Batch([view, view], torch.arange(4), torch.full((4,), -1))
    terms = method(batch, 0.0)
    torch.testing.assert_close(terms["loss"], (terms["single"] + terms["dense"]) / 2)
    terms["loss"].backward()
    assert all(one.grad is not None for one in method.head.parameters())
    before = method.dense_queue.rows.clone()
    method.after_step(0.0)
    torch.testing.assert_close(method.dense_queue.rows[:, :4].norm(dim=0), torch.ones(4))
    assert torch.equal(method.dense_queue.rows[:, 4:], before[:, 4:])

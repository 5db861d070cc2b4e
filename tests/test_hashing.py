"""Hashes name what a result depends on: equal for equal content, different for any difference."""

import torch

from gemel.hashing import hash_of_question, hash_of_tensors


def test_a_hash_of_tensors_follows_names_types_shapes_and_values() -> None:
    weight = torch.arange(6, dtype=torch.bfloat16).view(2, 3)
    same = hash_of_tensors({"weight": weight.clone()})
    assert hash_of_tensors({"weight": weight}) == same
    others = [
        {"bias": weight},
        {"weight": weight.float()},
        {"weight": weight.view(3, 2)},
        {"weight": weight + 1},
        {"weight": weight, "bias": weight},
    ]
    assert len({same, *map(hash_of_tensors, others)}) == 6


def test_a_transposed_tensor_has_the_hash_of_its_values() -> None:
    weight = torch.arange(6.0).view(2, 3)
    assert hash_of_tensors({"w": weight.T}) == hash_of_tensors({"w": weight.T.contiguous()})
    assert hash_of_tensors({"w": torch.tensor(1.0)}) != hash_of_tensors({"w": torch.tensor(2.0)})


def test_a_hash_of_a_question_follows_every_value() -> None:
    asked = {"k": 20, "data": "digits", "size": [8, 8]}
    assert hash_of_question(dict(reversed(asked.items()))) == hash_of_question(asked)
    assert len({hash_of_question(one) for one in (asked, asked | {"k": "20"}, asked | {"size": [8, 9]})}) == 3
    assert len(hash_of_question(asked, 12)) == 12

"""Weights of other programs for a backbone: its tensors are found in a file by names and shapes, or by their order."""

import re
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, strided

from gemel.backbones.base import COLOURS, Backbone
from gemel.engine.checkpoints import not_finite, read_tensors
from gemel.errors import UserError, brief
from gemel.runs.run import Run

Tensors = Mapping[str, Tensor]

DEPTH = 8
"""mappings inside one another that are looked into"""

SHOWN = 3
"""names of each kind in a message"""

WRAPPERS = re.compile(r"(?:(?<=\.)|^)(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|module)\.")
"""what torch.compile, FSDP, activation checkpointing and DataParallel put into names"""

BEST = {"teacher", "ema"}
"""words in the names of the copy that methods keep at the end"""

WORST = {"student", "momentum", "target", "key", "k"}
"""words in the names of the other one; MoCo's queries are taken, not its keys"""


def _by_name(*_: object) -> str:
    """Stand in for the function that early checkpoints of Barlow Twins name among the optimiser's settings."""
    return "exclude_bias_and_norm"


_NUMBER: Any = np.float64(0).__reduce__()[0]
"""what NumPy's single numbers are made again by"""

ALLOWED: tuple[type[Any] | tuple[Callable[..., Any], str], ...] = (
    Namespace,
    (_by_name, "__main__.exclude_bias_and_norm"),
    (dict, "lightning_fabric.utilities.data.AttributeDict"),
    (dict, "lightning.fabric.utilities.data.AttributeDict"),
    (dict, "pytorch_lightning.utilities.parsing.AttributeDict"),
    (_NUMBER, "numpy.core.multiarray.scalar"),
    (_NUMBER, "numpy._core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(kind)) for kind in (np.float32, np.float64, np.int32, np.int64, np.bool_)),
)
"""what released checkpoints hold beside tensors, numbers and strings, and what cannot do harm: flags, single numbers"""


def start_from(backbone: Backbone, weights: str | Path) -> str:
    """Load a backbone's tensors from a run's folder, or from a file of tensors that any program wrote.

    Prefixes (`module.encoder_q.`, `teacher.backbone.`, `state_dict.`, ...) are found by looking for the backbone's
    names and shapes in the file, nested mappings included; where the names are others, as the numbers of a
    `Sequential`, by a run of tensors that has the backbone's shapes in its order. A teacher is preferred to its
    student, MoCo's queries to its keys; heads are ignored; counters of batch norm may be missing.

    Args:
        backbone: keeps its own tensors if an error is raised.
        weights: a run's folder, a .safetensors or a torch file.

    Returns:
        How the tensors were found, in a few words.

    Raises:
        UserError: the file can't be read, lacks tensors of the backbone or has others, or holds NaN.
    """
    path, advice = Path(weights), "choose the --backbone that it is of, with its stem, patch_size and image_size"
    if path.is_dir():
        run = Run(path)
        advice = f"choose --backbone {run.backbone_facts['name']}, with the options of that run"
        path = run.backbone_path
    tensors = dict(_flat(read_tensors(path, allowed=ALLOWED)))
    wanted = backbone.network.state_dict()
    tensors, adapted = _for_channels(tensors, wanted, backbone.in_channels)
    for names in (tensors, {WRAPPERS.sub("", name): value for name, value in tensors.items()}):
        found, how = _below_a_prefix(wanted, names) or _in_order(wanted, names) or ({}, "")
        if found:
            break
    else:
        raise UserError(
            f"--weights {brief(str(weights))} does not fit the network: {_why_not(wanted, names)}; {advice}"
        )
    broken = not_finite(found)
    if broken:
        many = f"{', '.join(broken[:SHOWN])}{', ...' if len(broken) > SHOWN else ''}"
        raise UserError(f"--weights {brief(str(weights))} holds NaN or infinite values ({many}); take another file")
    backbone.network.load_state_dict(found, strict=False)
    return f"{how}; the first layer's are made for {backbone.in_channels} channels" if adapted else how


def _for_channels(tensors: Tensors, wanted: Tensors, channels: int) -> tuple[dict[str, Tensor], bool]:
    """Return tensors whose kernels for three colours fit a first layer for other channels, and whether any changed."""
    first = next((one for one in wanted.values() if one.ndim == 4), None)
    if channels == COLOURS or first is None or first.shape[1] != channels:
        return dict(tensors), False
    from gemel.backbones.timm import for_channels  # timm takes a second or two to import

    fits = (first.shape[0], COLOURS, *first.shape[2:])
    kernels = {name: for_channels(one, channels) for name, one in tensors.items() if tuple(one.shape) == fits}
    return dict(tensors) | kernels, bool(kernels)


def _flat(values: Mapping[Any, Any], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """Yield the dense tensors of nested mappings by their dotted names; an optimiser's state is no weights."""
    for key, value in values.items():
        if isinstance(value, Tensor) and value.layout is strided and not value.is_quantized:
            yield f"{prefix}{key}", value
        elif isinstance(value, Mapping) and depth < DEPTH and not str(key).startswith("optim"):
            yield from _flat(value, f"{prefix}{key}.", depth + 1)


def _needed(wanted: Tensors) -> list[str]:
    """Return the names that a file must have: PyTorch before 0.4.1 wrote no counters of batch norm."""
    return [name for name in wanted if not name.endswith("num_batches_tracked")]


def _below_a_prefix(wanted: Tensors, tensors: Tensors) -> tuple[dict[str, Tensor], str] | None:
    """Return the wanted tensors below the best prefix that has them all, in their shapes."""

    def fits(name: str, value: Tensor | None) -> bool:
        return name in wanted and value is not None and wanted[name].shape == value.shape

    needed = _needed(wanted)
    candidates = _prefixes(tensors, fits)
    complete = [one for one in candidates if all(fits(name, tensors.get(one + name)) for name in needed)]
    if not complete:
        return None
    best = min(complete, key=lambda prefix: (_rank(prefix), prefix.count("."), len(prefix)))
    found = {name: tensors[best + name] for name in wanted if fits(name, tensors.get(best + name))}
    return found, f"below the prefix {best}" if best else "by their own names"


def _in_order(wanted: Tensors, tensors: Tensors) -> tuple[dict[str, Tensor], str] | None:
    """Return the best run of tensors that has the wanted shapes in the wanted order.

    The last parts of names (weight, running_mean) must agree, and modules correspond one to one.
    """
    needed, names = _needed(wanted), _needed(tensors)
    fitting: list[list[str]] = []
    for start in range(len(names) - len(needed) + 1):
        window = names[start : start + len(needed)]
        if all(_alike(tensors[one], one, wanted[two], two) for one, two in zip(window, needed, strict=True)):
            pairs = {(one.rpartition(".")[0], two.rpartition(".")[0]) for one, two in zip(window, needed, strict=True)}
            if len(pairs) == len({one for one, _ in pairs}) == len({two for _, two in pairs}):
                fitting.append(window)
    if not fitting:
        return None
    best = min(fitting, key=lambda window: _rank(window[0]))
    return dict(zip(needed, (tensors[name] for name in best), strict=True)), f"in their order, from {best[0]} on"


def _alike(one: Tensor, its_name: str, two: Tensor, other_name: str) -> bool:
    return one.shape == two.shape and its_name.rpartition(".")[2] == other_name.rpartition(".")[2]


def _prefixes(tensors: Tensors, counts: Callable[[str, Tensor], bool]) -> Counter[str]:
    """Return how many names below each prefix count, in the file's order."""
    found: Counter[str] = Counter()
    for name, value in tensors.items():
        parts = name.split(".")
        for cut in range(len(parts)):
            rest = ".".join(parts[cut:])
            if counts(rest, value):
                found[name.removesuffix(rest)] += 1
    return found


def _rank(prefix: str) -> int:
    words = set(re.split(r"[._]", prefix.lower()))
    return 0 if words & BEST else 2 if words & WORST else 1


def _why_not(wanted: Tensors, tensors: Tensors) -> str:
    """Return the first differing names of both sides."""
    if not tensors:
        return "it holds no tensors"
    counts = _prefixes(tensors, lambda name, _: name in wanted)
    if not counts:
        return f"it holds {_few(list(tensors))}; the network has {_few(_needed(wanted))}"
    best = max(counts, key=lambda prefix: (counts[prefix], -_rank(prefix), -len(prefix)))
    below = {name.removeprefix(best): value for name, value in tensors.items() if name.startswith(best)}
    shapes = [name for name in wanted if name in below and below[name].shape != wanted[name].shape]
    differ = [f"{name} is {tuple(below[name].shape)}, not {tuple(wanted[name].shape)}" for name in shapes]
    missing = [f"{name} is missing" for name in _needed(wanted) if name not in below]
    others = [name for name in below if name not in wanted]
    parts = [_few(some) for some in (missing, differ) if some]
    return "; ".join([*parts, f"it holds {_few(others)} as well"] if missing and others else parts)


def _few(texts: list[str]) -> str:
    more = f" and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return f"{', '.join(brief(text) for text in texts[:SHOWN])}{more}"

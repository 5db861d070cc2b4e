"""A supervised fit from its images to its heads; what was interrupted continues."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from gemel.data.sources import Source
from gemel.distributed import world_size
from gemel.engine.caller import preserved
from gemel.engine.devices import Devices
from gemel.engine.loop import Loop
from gemel.engine.processes import flags_of_all
from gemel.errors import Diverged, UserError
from gemel.hashing import hash_of_tensors
from gemel.supervised.classification import Classification, Frozen, History, Trained
from gemel.supervised.images import Labelled, Plan, classes_of
from gemel.supervised.recipes import Fitting, Precision
from gemel.supervised.state import StateFile, hash_of_images
from gemel.supervised.test_set import Judge

Progress = Callable[[int, int], None]
"""called with (steps done, steps) after each step"""

SECONDS = 60.0
"""between two states of a fit that are written within an epoch"""

LOOK = 50
"""steps after which a GPU's results are waited for, to see that they are finite"""


class Fitted(NamedTuple):
    """What a fit returns."""

    network: nn.Module
    """as it was given, fitted unless it was frozen; on the CPU, in evaluation mode"""
    heads: list[nn.Linear]
    """one for each rate; on the CPU"""
    history: History
    facts: dict[str, Any]
    """numbers that follow from the recipe and the images"""


def fit(
    network: nn.Module,
    facts: Mapping[str, Any],
    fitting: Fitting,
    train: Source,
    tests: Mapping[str, Source],
    *,
    folder: Path,
    seed: int = 0,
    precision: Precision = "32",
    tell: Progress | None = None,
) -> Fitted:
    """Fit, and judge by each test set after every epoch.

    The same seed gives the same heads, bit for bit, interrupted or not: the same call continues from
    FOLDER/evaluations/.fit-HASH.ckpt. Several processes share each batch, and fit what one would.

    Args:
        network: normalised floats (B, 3, H, W) to (B, width). One that is not frozen is changed: give a copy.
        facts: as in backbone.json: size, mean, std, views.
        fitting: the recipe.
        train: images with labels.
        tests: images with labels by name; all of one set of classes.
        folder: the subject's.
        seed: random seed of the heads, the order and the views.
        precision: bf16: the network by autocast.
        tell: called after each step.

    Raises:
        UserError: labels that do not allow it, too few images, features that are not finite, a frozen network that
            changed.
        Interrupted: by SIGINT or SIGTERM; the state is written.
        Diverged: no head is finite any more.
    """
    images, judged = Labelled.of(train), {name: Labelled.of(test) for name, test in tests.items()}
    if fitting.backbone_lr is not None and len(fitting.lr) > 1:
        raise UserError(f"{len(fitting.lr)} rates for a network that is fitted; give one --lr")
    classes, plan = classes_of(images, list(judged.values())), Plan.of(images, fitting, facts, seed=seed)
    judges = {name: Judge(one, facts) for name, one in judged.items()}
    question = _question(network, facts, fitting, images, judged) | {"seed": seed, "precision": precision}
    kind = Frozen if fitting.backbone_lr is None else Trained
    try:
        with preserved():
            task = kind(network, facts, plan, fitting, classes=classes, devices=Devices(precision))
            _run(task, judges, StateFile(folder, question), tell)
            return Fitted(network, task.heads.cpu().linear, task.history, task.facts() | {"precision": precision})
    finally:
        network.cpu().eval()


def _question(
    network: nn.Module, facts: Mapping[str, Any], fitting: Fitting, images: Labelled, tests: Mapping[str, Labelled]
) -> dict[str, Any]:
    """What the outcome depends on: another question never continues from the same state."""
    return {
        "network": hash_of_tensors(network.state_dict()),
        "facts": dict(facts),
        "fitting": fitting.model_dump(),
        "images": hash_of_images(images),
        "tests": {name: hash_of_images(one) for name, one in tests.items()},
        "processes": world_size(),
    }


def summary(epochs: list[dict[str, float]]) -> dict[str, float]:
    """Return a head's metrics after the last epoch; best_...: of the first epoch with the highest top1.

    Args:
        epochs: metrics on one test set after each epoch.

    >>> found = summary([{"top1": 0.5}, {"top1": 0.7}, {"top1": 0.6}])
    >>> found == {"top1": 0.6, "best_top1": 0.7, "best_epoch": 2}
    True
    """
    best = max(range(len(epochs)), key=lambda epoch: (epochs[epoch]["top1"], -epoch))
    marked = {f"best_{name}": value for name, value in epochs[best].items() if name in ("top1", "top5")}
    return {**epochs[-1], **marked, "best_epoch": best + 1}


def _run(task: Classification, judges: Mapping[str, Judge], file: StateFile, tell: Progress | None) -> None:
    """Take a task from its state, if there is one, to the end, and leave no state."""
    per_epoch = task.plan.steps_per_epoch

    def told(_: Mapping[str, Tensor]) -> bool:
        if tell is not None:
            tell(task.done, task.steps)
        return False

    def save(state: dict[str, Any]) -> None:
        if all(len(task.history.get(name, ())) == task.epoch for name in judges):  # else the epoch is repeated
            file.write(state)

    state = file.read()
    if state is not None:
        task.load(state)
        task.devices.load(state["precision"])
    loop = Loop(
        task,
        task.devices,
        save=save,
        seconds=SECONDS,
        looks=lambda step: step % per_epoch == 0 or step % LOOK == 0,
        observers=[told, lambda _: task.judge(judges)],
        name="the fit",
        advice=lambda step: "try a smaller --lr",
    )
    try:
        loop.run()
    except Diverged as error:
        file.remove()  # the same fit would diverge again
        if isinstance(task, Frozen) and flags_of_all(bool(task.not_finite))[0]:
            raise UserError("the features hold NaN or infinite values; the training diverged") from error
        raise
    file.remove()

"""How long a run will take, by some of its steps; what follows from it: the epochs of `minutes`, and the threads."""

from gemel.device import device
from gemel.engine.processes import first_says
from gemel.engine.progress import Say, clock
from gemel.launcher import cores, launched
from gemel.request.step_time import step_timer
from gemel.settings.run_settings import ON_FEATURES
from gemel.training.prepared import Prepared
from gemel.training.stages import stages_of

SMALL_STEP = 0.3
"""seconds of a step on one thread, above which all cores are used without trying"""

WORTH = 1.15
"""a gain from all cores below this is left to the workers and to other programs"""

OVERHEAD = 1.1
"""of probes, checkpoints and the closing pass, as a share of the steps' time"""


def estimate(prepared: Prepared, say: Say) -> None:
    """Choose the threads, fit the epochs to `minutes`, and say how long it will take; all processes must ask.

    Raises:
        UserError: the method refuses these settings at a step, or to begin one of its stages.
    """
    settings, plan = prepared.settings, prepared.plan
    epochs, minutes = settings.epochs, settings.minutes
    assert epochs is not None
    threads, step, reason = _threads(prepared)
    if settings.threads is None:
        say(f"threads: {threads} ({reason})")
        prepared.settings = settings = settings.model_copy(update={"threads": threads})
    epoch, later, more, shown = OVERHEAD * step * plan.steps_per_epoch, 0.0, "", f"{1000 * step:.0f} ms"
    if settings.train == "last":
        more = f", then up to {settings.then.epochs} of the network's last stage,"
    elif settings.then.epochs:
        second = _second_step(prepared)
        later = settings.then.epochs * OVERHEAD * second * plan.steps_per_epoch
        more, shown = f" + {settings.then.epochs}", f"{1000 * step:.0f} and {1000 * second:.0f} ms"
    if minutes is not None:
        enough = epochs if settings.train in ON_FEATURES else None  # they have learned then
        epochs = max(1, int((minutes * 60 - later) / epoch))
        why = f"fits {minutes:g} minutes, {epoch:.2g} s an epoch"
        if enough is not None and enough < epochs:
            epochs, why = enough, f"enough for heads; {minutes:g} minutes would allow more"
        if epoch + later > 60 * minutes:
            what = "an epoch and the second stage take" if later else "an epoch takes"
            why = f"more than {minutes:g} minutes: {what} {clock(epoch + later)}"
        say(f"epochs: {epochs} ({why})")
        prepared.settings = settings.model_copy(update={"epochs": epochs, "minutes": None})
    dropped = len(plan.source) - plan.steps_per_epoch * plan.batch_size
    left_out = f"; {dropped} images, others each time, are left out of an epoch" if dropped else ""
    say(
        f"estimate: {clock(epoch * epochs + later)} for {epochs}{more} epochs of {plan.steps_per_epoch} steps at "
        f"{shown}{left_out}"
    )


def _second_step(prepared: Prepared) -> float:
    """Seconds of a step of the second stage; a method that refuses it does so here, before anything is trained."""
    return step_timer(prepared, stages_of(prepared.settings, prepared.method)[1])(prepared.settings.threads or 1)


def _threads(prepared: Prepared) -> tuple[int, float, str]:
    """Threads, the seconds of a step with them, and the reason: small networks are faster on one."""
    settings = prepared.settings
    seconds = step_timer(prepared, stages_of(settings, prepared.method)[0])
    # the first one's: processes that went other ways here would wait for each other's steps
    available = int(first_says(max(1, cores() // launched().local_processes)))
    if settings.threads is not None:
        return settings.threads, seconds(settings.threads), "as asked"
    if available == 1:
        return 1, seconds(1), "1 core"
    alone = seconds(1, SMALL_STEP) if device().type == "cpu" else SMALL_STEP
    if alone < SMALL_STEP:
        together = seconds(available)
        worth = 1.0 if settings.train in ON_FEATURES else WORTH  # vectors need no workers
        if alone < worth * together:
            return 1, alone, f"a step takes {1000 * alone:.0f} ms, with {available} it takes {1000 * together:.0f}"
        return available, together, f"a step takes {1000 * together:.0f} ms, with 1 it takes {1000 * alone:.0f}"
    return available, seconds(available), f"{available} cores"

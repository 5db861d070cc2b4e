"""gemel: vision encoders from images without labels, and the classes that it finds in them.

The front door: names only. Each is imported where it is first used, so that `import gemel` is instant.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gemel.api.check import check
    from gemel.api.classify import classify
    from gemel.api.embed import embed
    from gemel.api.evaluate import evaluate
    from gemel.api.exchange import export, import_official
    from gemel.api.explore import explore
    from gemel.api.replay import replay
    from gemel.api.runs import backbone, load
    from gemel.api.several_runs import compare, report, study
    from gemel.api.train import pretrain, resume
    from gemel.api.views import views
    from gemel.errors import UserError
    from gemel.runs.run import Run

__version__ = "0.1.0"

# Read as torch is loaded. Threads that spin while they wait for one whose core is taken by another program make a step
# several times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__all__ = [
    "Run",
    "UserError",
    "backbone",
    "check",
    "classify",
    "compare",
    "embed",
    "evaluate",
    "explore",
    "export",
    "import_official",
    "load",
    "pretrain",
    "replay",
    "report",
    "resume",
    "study",
    "views",
]

_MODULES = {
    "errors": ("UserError",),
    "runs.run": ("Run",),
    "api.check": ("check",),
    "api.classify": ("classify",),
    "api.embed": ("embed",),
    "api.evaluate": ("evaluate",),
    "api.explore": ("explore",),
    "api.exchange": ("export", "import_official"),
    "api.replay": ("replay",),
    "api.runs": ("backbone", "load"),
    "api.several_runs": ("compare", "report", "study"),
    "api.train": ("pretrain", "resume"),
    "api.views": ("views",),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            globals()[name] = found = getattr(import_module(f"gemel.{module}"), name)
            return found
    raise AttributeError(f"module 'gemel' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

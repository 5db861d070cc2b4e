"""Checkpoints of the methods' released codes as runs, and those of TWIST and of Barlow Twins back.

A file is opened once, as tensors, numbers and strings; nothing in it is run.
"""

from pathlib import Path

from gemel import methods
from gemel.engine import checkpoints
from gemel.engine.pretrained_weights import ALLOWED
from gemel.errors import UserError
from gemel.exchange import output
from gemel.exchange.official import barlow_twins, renamed, twist
from gemel.exchange.official.layout import Bare, below, check_network, network_of, tensors_of, to_run
from gemel.runs.folder import claim
from gemel.runs.run import Run

WRITTEN = {"twist": twist, "barlow_twins": barlow_twins}
LAYOUTS = {**WRITTEN, **{one.method: one for one in renamed.LAYOUTS}}
"""by the method's name; those that are written, and all that are read"""

MODELS = ("model", "state_dict", "student")
"""what released codes call the network in a checkpoint"""


def read(file: str | Path, out: str | Path, *, method: str = "twist", overwrite: bool = False) -> Run:
    """Write an official checkpoint as a run, which embed, classify, evaluate, report and export take.

    The network and all widths come from the tensors' shapes, other settings from the method's recipe; a file of a bare
    backbone becomes a run without heads.

    Args:
        file: checkpoint.pth, or a file of a backbone alone.
        out: folder of the run.
        method: whose backbone it is, where the file holds nothing else.
        overwrite: replace the run at `out`.

    Raises:
        UserError: the file holds something else, or tensors are missing or of other shapes.
    """
    path = Path(file)
    claimed = claim(str(out), method, overwrite=overwrite, inputs=[path])
    found = checkpoints.read_tensors(path, allowed=ALLOWED)
    model = tensors_of(next((found[key] for key in MODELS if key in found), found), path)
    for layout in LAYOUTS.values():
        if layout.fits(model):
            return to_run(layout.read(found, model, path), claimed, path)
    parts = {name.partition(".")[0] for name in model}
    if "backbone" in parts and len(parts) > 1:
        raise UserError(
            f"{path} is of no layout that is known here ({', '.join(LAYOUTS)}): it holds {', '.join(sorted(parts))}; "
            f"gemel pretrain IMAGES --weights {path} starts from its backbone"
        )
    backbone = below("backbone.", model) or model
    name = network_of(backbone, path)["name"]
    recipe = LAYOUTS[method].recipe_of(name) if method in LAYOUTS else methods.find_recipe(method)[0]
    return to_run(Bare(method, recipe, backbone), claimed, path)


def export(run: Run, out: Path | None = None) -> Path:
    """The run's network in its method's official layout, as `torch.save` writes it.

    Of several class heads of TWIST the best one is written, and no optimiser; of Barlow Twins the bare backbone too,
    beside the file, and no optimiser unless LARS (L1) trained the run: the official code goes on with no other.

    Args:
        run: a run that has its heads.
        out: the file; None: RUN/official.pth.

    Raises:
        UserError: the official code has no such backbone, method or part of it, or the run has no heads.
    """
    name = run.method_name
    if name not in WRITTEN:
        raise UserError(f"gemel writes no official layout of {name}, but of {' and '.join(WRITTEN)}")
    facts = run.backbone_facts
    check_network(facts)
    state = checkpoints.load(run)
    if state is None:
        raise UserError(
            f"{run.path} has no checkpoint, and so no heads; gemel export {run.path} timm, torchvision or safetensors "
            "writes its backbone"
        )
    path = output(run, out, "official.pth", ".pth", ".pt")
    WRITTEN[name].write(run.settings, facts, state, path)
    return path

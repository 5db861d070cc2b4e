"""How many views the network may see at a time in a given memory."""

from gemel.backbones.base import Backbone
from gemel.backbones.parts.in_parts import activation_bytes
from gemel.engine.progress import Say
from gemel.errors import UserError
from gemel.launcher import launched
from gemel.methods.base import Method
from gemel.settings.run_settings import bytes_of
from gemel.settings.tree import Settings


def in_memory(settings: Settings, method: Method, say: Say) -> Settings:
    """Return the settings with as many views at a time as `memory` allows; the method's backbones take it, too.

    Beside the activations there are the parameters four times (gradient, two moments), and a process's views.

    Raises:
        UserError: it allows fewer than two.
    """
    assert settings.memory and settings.views is not None and settings.batch_size and settings.image_size
    backbone, views = method.backbone, settings.views
    sides = views.sizes(settings.image_size)
    images = settings.batch_size // launched().processes
    pixels = images * sum(side**2 for side in sides) * backbone.in_channels
    fixed = 4 * sum(one.nbytes for one in method.parameters()) + 5 * pixels  # as bytes and as floats
    each = activation_bytes(backbone.network, max(sides), backbone.in_channels)
    part = (bytes_of(settings.memory) - fixed) // each
    if part < 2:
        raise UserError(
            f"--memory {settings.memory}: parameters and views take {fixed / 1e9:.2f} GB, and two views of "
            f"{max(sides)} pixels leave {2 * each / 1e6:.0f} MB behind; give more, or a smaller network or batch"
        )
    shown = images * len(sides)
    found = None if part >= shown else int(part)
    say(f"part: {found or 'all'} ({settings.memory}: a view leaves {each / 1e6:.1f} MB behind, a step has {shown})")
    for network in method.modules():  # a teacher's, or those of several networks, too: as of a part that was given
        if isinstance(network, Backbone):
            network.part = found
    return settings.model_copy(update={"part": found})

"""Barlow Twins in a bare PyTorch loop: no trainer, no settings, your own data.

python examples/plain_torch.py
"""

import torch

from gemel.backbones.convnet import convnet
from gemel.data.batches import Loader
from gemel.data.plan import Plan
from gemel.data.sources import open_source
from gemel.methods.barlow_twins import BarlowTwins
from gemel.settings.recipes import GlyphViews

torch.manual_seed(0)
method = BarlowTwins(convnet(), projector=(128, 128))
optimizer = torch.optim.AdamW(method.parameters(), lr=1e-3)
loader = Loader(Plan(open_source("digits"), GlyphViews(), size=16, seed=0, batch_size=128))

for step, batch in enumerate(loader):
    views = [(view.float() / 255 - 0.5) / 0.5 for view in batch.views]
    progress = step / len(loader)
    terms = method(batch._replace(views=views), progress)
    optimizer.zero_grad()
    terms["loss"].backward()
    optimizer.step()
    method.after_step(progress)
    print(step, {name: round(float(value.detach()), 3) for name, value in terms.items()})

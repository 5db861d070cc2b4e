"""What comes after training: load a run's backbone, embed images, look for neighbours.

gemel pretrain digits --epochs 2 --out runs/example
python examples/use_backbone.py runs/example
"""

import sys

import numpy as np
import torch

import gemel

run = gemel.load(sys.argv[1])
backbone = gemel.backbone(run)  # an nn.Module in evaluation mode: normalised floats (B, 3, H, W) to (B, width)
with torch.no_grad():
    print("features:", tuple(backbone(torch.zeros(2, 3, 16, 16)).shape))

table = gemel.embed(run)  # path, vector; of the run's own images, or of any others
vectors = np.stack(table.column("vector").to_pylist())
vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
paths = table.column("path").to_pylist()
nearest = np.argsort(-(vectors[:3] @ vectors.T), axis=1)[:, 1:4]
for query, row in enumerate(nearest):
    print(paths[query], "is most like", [paths[place] for place in row])

classes = gemel.classify(run)
print(classes.slice(0, 3).to_pylist())

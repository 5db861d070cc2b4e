"""What the studies of TWIST share: the size of its ablations."""

from collections.abc import Sequence

from gemel.studies.base import Scale, Variation


def ablation(variations: Sequence[Variation]) -> Scale:
    """ResNet-50 with small views on ImageNet for 50 epochs, without a second stage, as TWIST's Tables 7 and 8."""
    settings = {"method": "twist/resnet50-multicrop", "images": "imagenet", "epochs": 50, "then.epochs": 0}
    return Scale(settings, variations)

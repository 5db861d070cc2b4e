"""Common parts of the studies of TWIST: the size of its ablations."""

from collections.abc import Sequence

from gemel.studies.base import Scale, Variation


def ablation(variations: Sequence[Variation]) -> Scale:
    """Return the size of TWIST's Tables 7 and 8: ResNet-50, small views, ImageNet, 50 epochs, no second stage."""
    settings = {"method": "twist/resnet50-multicrop", "images": "imagenet", "epochs": 50, "then.epochs": 0}
    return Scale(settings, variations)

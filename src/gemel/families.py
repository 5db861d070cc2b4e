"""The views of the papers, and of solo-learn's presets, by name."""

from typing import Any

from gemel.recipes import PhotoViews

_SIMCLR: dict[str, Any] = {
    "brightness": 0.8, "contrast": 0.8, "saturation": 0.8, "hue": 0.2, "blur": (0.5, 0.5), "solarize": (0.0, 0.0),
}  # fmt: skip
_WEAK: dict[str, Any] = {"saturation": 0.4, "blur": (0.5, 0.5), "solarize": (0.0, 0.0)}
_MOCO: dict[str, Any] = {**_WEAK, "scale": (0.2, 1.0), "interpolation": "bilinear"}
_DINO: dict[str, Any] = {"scale": (0.4, 1.0), "local_scale": (0.05, 0.4), "local_count": 8}
_ZOOMED: dict[str, Any] = {"scale": (0.14, 1.0), "local_scale": (0.05, 0.14)}

VIEW_FAMILIES: dict[str, PhotoViews] = {
    # also of Barlow Twins, VICReg and TWIST without multi-crop
    "byol": PhotoViews(),
    "moco_v1": PhotoViews(**{**_MOCO, "jitter": 1.0, "hue": 0.4, "gray_first": True, "blur": (0.0, 0.0)}),
    # also of SimSiam and DenseCL
    "moco_v2": PhotoViews(**_MOCO),
    "moco_v3_resnet50": PhotoViews(scale=(0.2, 1.0), interpolation="bilinear"),
    "moco_v3_vit": PhotoViews(interpolation="bilinear"),
    "simclr": PhotoViews(**_SIMCLR),
    "simclr_cifar": PhotoViews(saturation=0.4, blur=(0.0, 0.0), solarize=(0.0, 0.0)),
    # also of DeepCluster v2
    "swav": PhotoViews(**_SIMCLR, **_ZOOMED, interpolation="bilinear", local_count=6),
    "dino": PhotoViews(**_DINO),
    "dino_resnet50": PhotoViews(**{**_DINO, **_ZOOMED}),
    "twist_multicrop": PhotoViews(**{**_DINO, "local_count": 12}),
    "twist_self_labeling": PhotoViews(**{**_DINO, **_ZOOMED, "local_count": 12}),
    # its code swaps the blurs of the paper
    "self_classifier": PhotoViews(**{**_DINO, "blur": (0.1, 1.0), "local_count": 6}),
    "solo_cifar_asymmetric": PhotoViews(blur=(0.0, 0.0)),
    "solo_cifar_symmetric": PhotoViews(**_SIMCLR),
    "solo_cifar_symmetric_weak": PhotoViews(**_WEAK),
    "solo_imagenet100_asymmetric": PhotoViews(),
}
"""Views of the papers, and of solo-learn's presets, by name; `--views NAME` stands for `photo` with these numbers."""

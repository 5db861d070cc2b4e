"""The views of the papers and of solo-learn's presets, by name."""

from typing import Any

from gemel.settings.recipes import PhotoViews


def _changed(views: PhotoViews, **changes: Any) -> PhotoViews:
    return PhotoViews.model_validate({**views.model_dump(), **changes})


_BYOL = PhotoViews()
_WEAK = _changed(_BYOL, saturation=0.4, blur=(0.5, 0.5), solarize=(0, 0))
_SIMCLR = _changed(_WEAK, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2)
_MOCO = _changed(_WEAK, scale=(0.2, 1), interpolation="bilinear")
_DINO = _changed(_BYOL, scale=(0.4, 1), local_scale=(0.05, 0.4), local_count=8)
_ZOOMED = _changed(_DINO, scale=(0.14, 1), local_scale=(0.05, 0.14))

VIEW_FAMILIES: dict[str, PhotoViews] = {
    "byol": _BYOL,  # also of Barlow Twins, VICReg and TWIST without multi-crop
    "moco_v1": _changed(_MOCO, jitter=1, hue=0.4, gray_first=True, blur=(0, 0)),
    "moco_v2": _MOCO,  # also of SimSiam and DenseCL
    "moco_v3_resnet50": _changed(_BYOL, scale=(0.2, 1), interpolation="bilinear"),
    "moco_v3_vit": _changed(_BYOL, interpolation="bilinear"),
    "simclr": _SIMCLR,
    "simclr_cifar": _changed(_WEAK, blur=(0, 0)),
    "swav": _changed(  # also of DeepCluster v2
        _SIMCLR, scale=(0.14, 1), interpolation="bilinear", local_count=6, local_scale=(0.05, 0.14)
    ),
    "dino": _DINO,
    "dino_resnet50": _ZOOMED,
    "twist_multicrop": _changed(_DINO, local_count=12),
    "twist_self_labeling": _changed(_ZOOMED, local_count=12),
    "self_classifier": _changed(_DINO, blur=(0.1, 1), local_count=6),  # its code swaps the paper's blurs
    "solo_cifar_asymmetric": _changed(_BYOL, blur=(0, 0)),
    "solo_cifar_symmetric": _SIMCLR,
    "solo_cifar_symmetric_weak": _WEAK,
    "solo_imagenet100_asymmetric": _BYOL,
}
"""`--views NAME` stands for `photo` with these numbers."""

"""The settings of TWIST's published runs (released code and README of arXiv 2110.07402), and ours for small images."""

from collections.abc import Mapping

from gemel.settings.recipes import AdamWOptimizer, GlyphViews, LarsOptimizer, PhotoViews, Recipe, Stage, VectorViews

_LARS = LarsOptimizer(lr=0.5, weight_decay=1.5e-6, flavour="L2")
_HARDER = {"scale": (0.14, 1.0), "local_scale": (0.05, 0.14)}
_SELF_LABELING = Stage(epochs=50, views=_HARDER, optimizer={"lr": 0.05, "warmup_epochs": 5})


def _crops(local: int) -> PhotoViews:
    return PhotoViews(scale=(0.4, 1.0), local_count=local)


def _transformer(lr: float, decay: float) -> AdamWOptimizer:
    return AdamWOptimizer(lr=lr, weight_decay=0.06, final_decay=decay, clip=3.0)


RECIPES: Mapping[str, Recipe] = {
    "resnet50": Recipe(
        source="released code of arXiv 2110.07402, two views: linear top-1 72.6 on ImageNet",
        views=PhotoViews(),
        backbone={"name": "resnet50", "zero_init": False},
        image_size=224,
        epochs=800,
        batch_size=2048,
        optimizer=_LARS,
        method={"classes": 32768, "bunch": 256},
    ),
    "resnet50-multicrop": Recipe(
        source="released code of arXiv 2110.07402, 12 small views, then self-labeling: linear top-1 75.5 on ImageNet",
        views=_crops(12),
        backbone={"name": "resnet50", "zero_init": False},
        image_size=224,
        epochs=800,
        batch_size=2048,
        optimizer=_LARS,
        then=_SELF_LABELING,
        method={"bunch": 256},
    ),
    "resnet50w2": Recipe(
        source="released code of arXiv 2110.07402, every channel doubled (94 M): linear top-1 77.7 on ImageNet",
        views=_crops(12),
        backbone={"name": "resnet50w2"},
        image_size=224,
        epochs=200,
        batch_size=1920,
        optimizer=_LARS,
        then=_SELF_LABELING,
        method={"bunch": 240},
    ),
    "deit-small": Recipe(
        source="released code of arXiv 2110.07402, with a teacher: linear top-1 76.3 on ImageNet",
        views=_crops(6),
        backbone={"name": "deit_small_patch16_224"},
        image_size=224,
        epochs=300,
        batch_size=1024,
        optimizer=_transformer(3e-4, 0.12),
        method={"alpha": 0.4, "bunch": 256, "head_style": "transformer", "teacher": True},
    ),
    "vit-base": Recipe(
        source="released code of arXiv 2110.07402, with a teacher: linear top-1 78.4 on ImageNet",
        views=_crops(10),
        backbone={"name": "vit_base_patch16_224", "drop_path": 0.1},
        image_size=224,
        epochs=300,
        batch_size=1024,
        optimizer=_transformer(7.5e-4, 0.06),
        method={"alpha": 0.4, "bunch": 256, "head_style": "transformer", "teacher": True},
    ),
    "classify": Recipe(
        source="README of arXiv 2110.07402's code, classes as many as wanted: NMI 74.4, AMI 57.7, ARI 30.1, ACC 40.5 "
        "on ImageNet's validation images; its flags are not published, these are those of resnet50",
        views=PhotoViews(),
        backbone={"name": "resnet50", "zero_init": False},
        image_size=224,
        epochs=800,
        batch_size=2048,
        optimizer=_LARS,
        method={"classes": 1000, "bunch": 256},
    ),
    "small": Recipe(
        source="gemel's experiments on digits; results in the README",
        views=PhotoViews(),
        backbone={"name": "resnet18"},
        image_size=64,
        epochs=24,
        batch_size=128,
        images=1797,
        optimizer=AdamWOptimizer(lr=2e-3, weight_decay=1e-4, warmup_epochs=0, final=1.0),
        then=Stage(optimizer={"lr": 2e-4}),  # of a second stage that is asked for: a tenth, as in the papers' runs
        method={"hidden": 128, "alpha": 1.2, "heads": 8},
    ),
    "glyphs": Recipe(
        source="gemel's experiments on digits; results in the README",
        views=GlyphViews(),
        backbone={"name": "convnet"},
        image_size=16,
        epochs=24,
        batch_size=256,
        images=1797,
        optimizer=AdamWOptimizer(lr=3e-3, weight_decay=1e-4, warmup_epochs=2.4, final=1.0),
        then=Stage(epochs=18, optimizer={"final": 0.0}),
        method={"hidden": 64, "layers": 1, "heads": 4, "labels": "agreed", "networks": 3},
    ),
    "heads": Recipe(
        source="gemel's experiments on frozen features; results in docs/photos.md",
        views=VectorViews(),
        backbone={"name": "tf_efficientnet_lite0"},
        image_size=224,
        epochs=200,
        batch_size=256,
        images=1000,
        optimizer=AdamWOptimizer(lr=1e-2, weight_decay=1e-4, warmup_epochs=0, final=0.0),
        method={
            "hidden": 64, "layers": 1, "heads": 24, "epsilon": 0.0, "beta": (1.0, 0.6, 0.3), "clustered": 0.333,
            "consensus": True,
        },
    ),
}  # fmt: skip

"""The recipe that the small methods share."""

from gemel.settings.recipes import PhotoViews, Recipe, SgdOptimizer


def recipe(views=None):
    """A recipe of seconds."""
    return Recipe(
        source="tests",
        views=PhotoViews(**(views or {})),
        optimizer=SgdOptimizer(lr=0.5, warmup_epochs=1),
        backbone={"name": "convnet", "widths": [8, 16], "strides": [2, 2], "pool": 1},
        epochs=3,
        batch_size=12,
        image_size=16,
        images=36,
    )

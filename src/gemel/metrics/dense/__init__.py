"""Metrics of boxes, masks and label maps; the only place that imports pycocotools, inside functions."""

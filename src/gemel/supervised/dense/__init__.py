"""Detectors and segmenters on a backbone, as tasks of the loop."""

"""Pretraining as a task of the engine: stages, probes, rows, the networks that a run begins with."""

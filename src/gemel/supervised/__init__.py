"""Supervised fits as tasks of the engine, and logistic regression."""

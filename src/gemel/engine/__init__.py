"""The engine: steps, devices, processes, checkpoints, optimisers; no task stands here."""

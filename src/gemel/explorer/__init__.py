"""`gemel explore`: the explorer served on this machine, from a run's folder and its images."""

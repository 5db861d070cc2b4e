"""The map of a run's images: where each lies, from which zoom it shows, what is near it, and its picture."""

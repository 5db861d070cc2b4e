"""What the front door's functions do: the main job, evaluations, tables of images, several runs."""

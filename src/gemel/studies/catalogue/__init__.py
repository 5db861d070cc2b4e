"""One file a study; the folder is the list."""

"""One file a protocol; the folder is the list."""

"""Exchange: runs from other projects' files, and other projects' files from runs; one file a format."""

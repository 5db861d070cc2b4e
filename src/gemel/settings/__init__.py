"""What can be said, and how it is checked: the same for flags, YAML and Python; no torch here."""

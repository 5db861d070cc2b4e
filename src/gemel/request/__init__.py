"""From what a user asked for to a run that can start: checked, chosen, estimated; nothing is written here."""

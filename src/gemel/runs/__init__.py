"""A run's folder: its files, who may write there, the names of its classes."""

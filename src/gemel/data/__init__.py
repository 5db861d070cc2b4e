"""From an index in a dataset to a batch of views: sources, decode, views, augment, batches."""

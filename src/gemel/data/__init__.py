"""From a place in a data set to a batch of views: sources, decode, views, augment, batches."""

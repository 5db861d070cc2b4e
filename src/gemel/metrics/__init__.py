"""Pure functions that judge features, predictions and classes; probes and evaluations share them."""

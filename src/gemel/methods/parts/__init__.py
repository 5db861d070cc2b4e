"""What methods are made of: losses, heads, norms, and larger recipes."""

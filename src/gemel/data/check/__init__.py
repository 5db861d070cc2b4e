"""What is wrong with images before anything is learned from them: duplicates, blurred, dark and odd ones."""

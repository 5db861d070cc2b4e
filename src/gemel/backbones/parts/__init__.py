"""Parts of networks, and what is made of them."""

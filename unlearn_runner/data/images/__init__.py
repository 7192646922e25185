"""Images: drawn from a seed or read from files, and questions about them."""

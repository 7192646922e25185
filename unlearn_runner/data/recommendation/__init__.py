"""Sequential recommendation as text: interactions, and prompts that ask for the next item."""

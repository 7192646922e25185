"""Sequential recommendation as text: who interacted with what, and prompts that ask for the next."""

"""Text as a condition: a grammar, prompts made from labels, and an encoder that is trained along."""

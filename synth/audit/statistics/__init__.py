"""What is counted: similarity, its null, p-values, decisions, and attacks beyond distance."""

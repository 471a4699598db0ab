"""Embeddings: the table and its making."""

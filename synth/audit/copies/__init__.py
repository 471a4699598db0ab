"""Duplicates alone: training recordings in a synthetic set, without encoder or held-out patients."""

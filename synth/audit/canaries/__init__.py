"""Canaries: what is planted, how, and what was caught of it."""

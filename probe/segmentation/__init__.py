"""Probes of outlines."""

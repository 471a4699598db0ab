"""Probes of a clip's label."""

"""Probes of the cardiac phase."""

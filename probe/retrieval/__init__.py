"""Probes of what lies nearest."""

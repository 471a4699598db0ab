"""Figures that more than one package reports."""

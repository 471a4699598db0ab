"""Figures of a probe's report: each function draws one panel in the theme in force."""

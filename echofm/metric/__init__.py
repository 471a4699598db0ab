"""Measures of features and pictures, for every package above."""

"""Generators of echo images and videos: one task, its paths from noise to data, networks, conditions and samplers."""

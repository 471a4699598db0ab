"""Colour Doppler to greyscale: two networks predict what the colour hides, first structure, then texture."""

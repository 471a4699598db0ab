"""The masked video transformer."""

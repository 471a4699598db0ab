"""What a probe has fitted, saved, and applied to new clips."""

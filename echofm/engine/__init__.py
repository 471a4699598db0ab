"""One small training engine on accelerate."""

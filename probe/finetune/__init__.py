"""Fine-tuning: an encoder trained further on a label, beside its frozen probe."""

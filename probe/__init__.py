"""What does a frozen encoder know? Probes on its embeddings, with patients kept apart and every figure's interval."""

"""What is looked at before any figure: encoder, embedding, split."""

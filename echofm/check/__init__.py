"""What is in a folder of echo files, before anyone trains on it."""

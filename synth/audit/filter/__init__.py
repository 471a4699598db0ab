"""The kept part of an audited set."""

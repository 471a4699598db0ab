"""Readers: files in, de-identified clips out."""

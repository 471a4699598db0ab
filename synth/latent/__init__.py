"""Codecs: autoencoders that turn clips into latents and back, and the pixels themselves."""

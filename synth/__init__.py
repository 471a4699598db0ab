"""Synthetic echoes and what they give away: generators and the privacy audit."""

"""The published frame-pair network, equal to it tensor by tensor."""

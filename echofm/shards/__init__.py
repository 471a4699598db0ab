"""Webdataset shards with a manifest: written once, checked, read in an order that depends on the seed alone."""

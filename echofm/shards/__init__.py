"""Webdataset shards with a manifest: written once, checked, read in an order that depends on the seed alone."""

import os

# Webdataset reads this when it is first imported: no pickles, no `pipe:` commands from a shard's name.
os.environ["WDS_SECURE"] = "1"

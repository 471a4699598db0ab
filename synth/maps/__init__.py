"""Label maps to generate from: those of a split's clips, and new ones from a shape model of them."""

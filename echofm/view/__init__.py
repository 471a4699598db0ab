"""One page of a set's clips, to look through: by view, label and finding."""

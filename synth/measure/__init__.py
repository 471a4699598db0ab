"""Whether a generator does what it is asked: ejection fraction, motion, what its codec costs, one step against many."""

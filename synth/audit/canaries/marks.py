"""The columns that make a table of canaries: what was planted, how strongly, from which training clip."""

KIND, STRENGTH, SOURCE, LEFT_OUT = "canary_kind", "canary_strength", "canary_source", "canary_left_out"
COLUMNS = (KIND, STRENGTH, SOURCE, LEFT_OUT)

"""Reports: one HTML file of text, tables, figures and film strips; offline, on a phone, in the dark, on paper."""

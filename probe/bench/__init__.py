"""The field's benchmark, CardioBench (Taratynova et al. 2025, arXiv 2510.00520), on the public sets at hand."""

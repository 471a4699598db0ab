"""What reads labels, the cardiac phase and the left ventricle from features, for every package above the core."""

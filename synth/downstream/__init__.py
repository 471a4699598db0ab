"""What synthetic frames teach: segmentation, time point and view, learnt from real, synthetic and both."""

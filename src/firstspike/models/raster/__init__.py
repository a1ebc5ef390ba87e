"""Networks over rasters of cumulative spikes, trained by surrogate gradient (ETTFS, arXiv 2410.23619)."""

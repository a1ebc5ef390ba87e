"""Networks over rasters of flags, trained by surrogate gradient (ETTFS, arXiv 2410.23619)."""

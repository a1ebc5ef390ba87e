"""The one-step network: spatial windows instead of time (Yao et al. 2023, arXiv 2401.10843)."""

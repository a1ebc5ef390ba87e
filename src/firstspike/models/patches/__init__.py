"""The one-step network: patches of the map instead of time (Yao et al. 2023, arXiv 2401.10843)."""

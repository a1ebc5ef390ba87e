"""Trained networks on their way out: whole numbers, C, a page, NIR."""

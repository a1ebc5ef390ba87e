"""A finished run's figures on the test set."""

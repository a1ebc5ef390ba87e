"""Speed side by side: each row runs both sides in turn, on the same data with the same threads."""

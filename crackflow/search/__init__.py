"""Architecture search: space, oracle, trials."""

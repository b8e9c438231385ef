"""From probabilities to numbers with intervals, pictures and one page to read. Imports core alone."""

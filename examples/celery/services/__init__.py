"""Four services that would each need a GPU. Their models are small, and compute for real."""

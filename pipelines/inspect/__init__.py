"""Looking at data sets: published ones, and any WebDataset tars of others."""

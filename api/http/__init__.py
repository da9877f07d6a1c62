"""What every route shares: authentication, problems, bounds, read positions."""

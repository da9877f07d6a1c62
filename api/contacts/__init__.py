"""Routes about users and accounts: lists, the 360 view and all below it."""

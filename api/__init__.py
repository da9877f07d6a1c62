"""How Annals is reached: HTTP, the console and the command line."""

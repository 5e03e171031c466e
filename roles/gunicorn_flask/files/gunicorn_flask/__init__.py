"""What activate.py does, one file per concern."""

"""What the program does, a file a mode; each reads from top to bottom."""

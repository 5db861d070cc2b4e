"""Commands of the command line, one file each where they are more than a call; cli.py registers them."""

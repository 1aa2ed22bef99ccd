"""One file per verb of the command line: read the words, call, print."""

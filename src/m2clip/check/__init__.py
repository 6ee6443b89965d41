"""Whether a data set can be used: every file read in child processes, what is wrong with each, and with the set as a whole."""

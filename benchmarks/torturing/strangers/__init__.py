"""Files from strangers: good ones of every kind, what is done to them, bombs, and a process that reads them."""

"""The parts of `make torture`, one module each: what is done to m2clip, and what has come of it.

A part has three functions. `measure(folder, *, short, seed, say)` does its work below `folder`, tells sentences to `say` and returns
figures as plain JSON values; `short` is the form that a test runs in a few seconds. `tables(figures)` shows them in Markdown.
`faults(figures)` names in a sentence each what did not survive.
"""

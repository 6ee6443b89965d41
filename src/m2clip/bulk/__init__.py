"""Bulk recognition: the videos of folders, lists and shards into tables, on one machine or on Ray."""

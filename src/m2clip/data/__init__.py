"""Videos and lists on disk -> clip tensors and class texts."""

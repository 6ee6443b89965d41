"""What `benchmarks/serving.py` sends, whom it asks, and what it notes."""

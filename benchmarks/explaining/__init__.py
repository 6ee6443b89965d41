"""How well maps of what a score rests on lie where they should: candidates, measures, and the page's tables."""

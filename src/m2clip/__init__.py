"""m2clip: adapt a frozen CLIP to video action recognition."""

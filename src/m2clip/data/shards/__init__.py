"""Videos inside of tar files: packed, listed, fetched and read."""

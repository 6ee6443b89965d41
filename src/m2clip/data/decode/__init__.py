"""A video file becomes pictures, exact and upright, whatever its container and its damage."""

"""The embedded default: MotionShapes videos, the tiny CLIP and the demo."""

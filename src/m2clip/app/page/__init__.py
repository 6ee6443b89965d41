"""The page: Gradio's Blocks over the service, mounted on the server's app."""

from m2clip.app.page.mounting import mount_page

__all__ = ["mount_page"]

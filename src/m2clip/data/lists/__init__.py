"""Lists, tables and folders of videos and classes, in the forms that people have them."""

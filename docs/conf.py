"""The documents' site: `make docs` writes it to build/docs."""

project = "stillhouse"
author = "the stillhouse authors"
extensions = ["myst_parser"]
myst_heading_anchors = 3
source_suffix = {".md": "markdown"}
html_theme = "furo"
html_title = "stillhouse"
html_copy_source = False
html_show_sphinx = False
exclude_patterns = ["_build"]

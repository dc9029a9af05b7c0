"""Turn a folder of Jupyter notebooks into a folder of static pages."""

__version__ = "0.1.0"

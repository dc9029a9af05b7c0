"""Notebook instances on this machine: a supervised JupyterLab for each, which outlives a crash of this server."""

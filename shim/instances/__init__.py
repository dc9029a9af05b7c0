"""Notebook instances: a Jupyter server of one's own, on this machine or on Kubernetes, behind a REST API."""

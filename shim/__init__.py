"""Serve a built site and the little that is dynamic about it."""

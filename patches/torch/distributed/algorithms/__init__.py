"""Distributed algorithms: names only, see `join`."""

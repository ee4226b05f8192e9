"""The workflow's configuration: read from its files, checked, and its inheritance resolved."""

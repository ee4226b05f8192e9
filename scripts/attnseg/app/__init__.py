"""The command `attnseg`."""

"""What people touch: the command `attnseg`."""

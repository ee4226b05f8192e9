"""The page of `attnseg serve`: its server, its visitors, and what it answers."""

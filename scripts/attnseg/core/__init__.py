"""Pure array code that every room may use; of attnseg it imports nothing but errors."""

"""Pure array code that every package may use; it imports nothing of attnseg but `errors`."""

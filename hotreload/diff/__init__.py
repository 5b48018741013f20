"""What changed: two objects of one source compared function by function, by what they mean."""

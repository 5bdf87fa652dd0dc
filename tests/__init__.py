"""The tests; their layout mirrors src/."""

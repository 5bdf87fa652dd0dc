"""Tests of src/memory, file by file: what the contract leaves open, and the inside."""

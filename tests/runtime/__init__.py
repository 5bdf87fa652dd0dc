"""Tests of the core, a file for each file of src/runtime."""

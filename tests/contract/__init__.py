"""Tests written from the contract alone, by somebody who did not write the code."""

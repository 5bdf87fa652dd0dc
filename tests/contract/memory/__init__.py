"""goroutines.memory, and goroutines.runtime where memory is concerned, from the contract."""

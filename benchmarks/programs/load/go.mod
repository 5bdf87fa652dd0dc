module goroutines.load

go 1.23

package main

import (
	"sync"
	"time"
)

// What the results go to, so that nothing is done away with.
var (
	bytesSink  []byte
	numberSink []int64
)

// makes: make([]byte, size); ns each.
func makes(size int) func(n int) float64 {
	return func(n int) float64 {
		start := time.Now()
		for range n {
			bytesSink = make([]byte, size)
		}
		return perOp(start, n)
	}
}

// slicing: a part of a slice; ns each.
func slicing(n int) float64 {
	s := make([]byte, 1000)
	start := time.Now()
	for range n {
		bytesSink = s[10:500]
	}
	return perOp(start, n)
}

// appends: n numbers, one by one, to what was nil; ns each.
func appends(n int) float64 {
	numberSink = nil
	start := time.Now()
	for i := range n {
		numberSink = append(numberSink, int64(i))
	}
	return perOp(start, n)
}

// copies: a copy of size bytes; ns each.
func copies(size int) func(n int) float64 {
	return func(n int) float64 {
		from, to := make([]byte, size), make([]byte, size)
		start := time.Now()
		for range n {
			copy(to, from)
		}
		bytesSink = to
		return perOp(start, n)
	}
}

// reuse: get and put of a sync.Pool; ns for both.
func reuse(n int) float64 {
	pool := sync.Pool{New: func() any { return new([4096]byte) }}
	start := time.Now()
	for range n {
		pool.Put(pool.Get())
	}
	return perOp(start, n)
}

package main

import (
	"sync"
	"time"
)

const (
	bufferSize = 128
	ringSize   = 1000
	fanned     = 8  // workers of the pipeline
	steps      = 20 // what each does for an item
)

// unbuffered: one goroutine sends n items to another; ns per item.
func unbuffered(n int) float64 { return stream(make(chan int), n) }

// buffered: the same through a buffer; ns per item.
func buffered(n int) float64 { return stream(make(chan int, bufferSize), n) }

func stream(ch chan int, n int) float64 {
	var wg sync.WaitGroup
	wg.Add(2)
	start := time.Now()
	go func() {
		defer wg.Done()
		for i := range n {
			ch <- i
		}
	}()
	go func() {
		defer wg.Done()
		for range n {
			<-ch
		}
	}()
	wg.Wait()
	return perOp(start, n)
}

// pingPong: there and back over two unbuffered channels; ns per round trip.
func pingPong(n int) float64 {
	ping, pong := make(chan int), make(chan int)
	var wg sync.WaitGroup
	wg.Add(2)
	start := time.Now()
	go func() {
		defer wg.Done()
		for i := range n {
			ping <- i
			<-pong
		}
	}()
	go func() {
		defer wg.Done()
		for i := range n {
			<-ping
			pong <- i
		}
	}()
	wg.Wait()
	return perOp(start, n)
}

// pipeline: one goroutine sends n items to eight workers, whose results one
// collects; ns for each.
func pipeline(n int) float64 {
	items, results := make(chan int, bufferSize), make(chan int, bufferSize)
	start := time.Now()
	go func() {
		for i := range n {
			items <- i
		}
		close(items)
	}()
	var wg sync.WaitGroup
	for range fanned {
		spawnIn(&wg, func() {
			for item := range items {
				results <- mixed(item)
			}
		})
	}
	go func() {
		wg.Wait()
		close(results)
	}()
	total := 0
	for range results {
		total++
	}
	taken := perOp(start, n)
	check(total, n)
	return taken
}

func mixed(x int) int {
	for k := range steps {
		x = (x*31 + k) % 65521
	}
	return x
}

// ring: a token goes round a ring of goroutines, the caller's being one of
// them; ns per hop.
func ring(n int) float64 {
	laps := max(1, n/ringSize)
	first := make(chan int)
	in := first
	for range ringSize - 1 {
		out := make(chan int)
		go pass(in, out, laps)
		in = out
	}
	start := time.Now()
	for range laps {
		first <- 0
		<-in
	}
	return perOp(start, laps*ringSize)
}

func pass(in <-chan int, out chan<- int, laps int) {
	for range laps {
		out <- <-in + 1
	}
}

// sieve: the first n primes by the classic chain of filters; ns for all.
func sieve(n int) float64 {
	start := time.Now()
	ch := make(chan int)
	go generate(ch)
	for range n {
		prime := <-ch
		next := make(chan int)
		go filter(ch, next, prime)
		ch = next
	}
	return perOp(start, 1)
}

func generate(ch chan<- int) {
	for i := 2; ; i++ {
		ch <- i
	}
}

func filter(in <-chan int, out chan<- int, prime int) {
	for {
		i := <-in
		if i%prime != 0 {
			out <- i
		}
	}
}

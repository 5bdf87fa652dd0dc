package main

import (
	"sync"
	"time"
)

const (
	workers = 100
	window  = 1000 // how many results of a map may wait to be taken
)

// A task is a call for the pool; its result goes to a channel of its own.
type task struct {
	fn     func(int) int
	arg    int
	result chan<- int
}

// A pool is a set number of goroutines that take tasks from a channel.
type pool struct {
	tasks chan task
	wg    sync.WaitGroup
}

func newPool(size int) *pool {
	p := &pool{tasks: make(chan task, size)}
	for range size {
		spawnIn(&p.wg, p.work)
	}
	return p
}

func (p *pool) work() {
	for t := range p.tasks {
		t.result <- t.fn(t.arg)
	}
}

// submit hands a call over, and returns where its result will come out.
func (p *pool) submit(fn func(int) int, arg int) <-chan int {
	future := make(chan int, 1)
	p.tasks <- task{fn, arg, future}
	return future
}

func (p *pool) shutdown() {
	close(p.tasks)
	p.wg.Wait()
}

func increment(i int) int { return i + 1 }

// submitAll: n tiny tasks are handed to a pool, then all results collected;
// ns for each.
func submitAll(n int) float64 {
	start := time.Now()
	p := newPool(workers)
	futures := make([]<-chan int, n)
	for i := range futures {
		futures[i] = p.submit(increment, i)
	}
	total := 0
	for _, future := range futures {
		total += <-future
	}
	taken := perOp(start, n)
	p.shutdown()
	check(total, n*(n+1)/2)
	return taken
}

// mapAll: a tiny task is mapped over n inputs, with bounded buffers; ns for
// each.
func mapAll(n int) float64 {
	start := time.Now()
	p := newPool(workers)
	results := make(chan int, window)
	go func() {
		for i := range n {
			p.tasks <- task{increment, i, results}
		}
	}()
	total := 0
	for range n {
		total += <-results
	}
	taken := perOp(start, n)
	p.shutdown()
	check(total, n*(n+1)/2)
	return taken
}

package main

import (
	"sync"
	"time"
)

// select2: one goroutine sends to two unbuffered channels in turn, the other
// selects among them; ns per item.
func select2(n int) float64 {
	return selecting(2, n, func(chans []chan int, n int) (sum int) {
		a, b := chans[0], chans[1]
		for range n {
			select {
			case v := <-a:
				sum += v
			case v := <-b:
				sum += v
			}
		}
		return sum
	})
}

// select8: the same with eight channels.
func select8(n int) float64 {
	return selecting(8, n, func(chans []chan int, n int) (sum int) {
		a, b, c, d := chans[0], chans[1], chans[2], chans[3]
		e, f, g, h := chans[4], chans[5], chans[6], chans[7]
		for range n {
			select {
			case v := <-a:
				sum += v
			case v := <-b:
				sum += v
			case v := <-c:
				sum += v
			case v := <-d:
				sum += v
			case v := <-e:
				sum += v
			case v := <-f:
				sum += v
			case v := <-g:
				sum += v
			case v := <-h:
				sum += v
			}
		}
		return sum
	})
}

func selecting(width, n int, consume func([]chan int, int) int) float64 {
	rounds := max(1, n/width)
	items := rounds * width
	chans := make([]chan int, width)
	for i := range chans {
		chans[i] = make(chan int)
	}
	var wg sync.WaitGroup
	wg.Add(2)
	start := time.Now()
	go func() {
		defer wg.Done()
		for i := range rounds {
			for _, ch := range chans {
				ch <- i
			}
		}
	}()
	sum := 0
	go func() {
		defer wg.Done()
		sum = consume(chans, items)
	}()
	wg.Wait()
	if sum != width*rounds*(rounds-1)/2 {
		fail("select: an item was lost")
	}
	return perOp(start, items)
}

package main

import (
	"fmt"
	"net"
)

// echo: a server that sends back what it gets, a goroutine for each
// connection; tells its port and serves until it is killed. The backlog is the
// system's largest, whatever is asked for.
func echo(int) float64 {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fail(err.Error())
	}
	fmt.Printf("{\"port\": %d}\n", listener.Addr().(*net.TCPAddr).Port)
	for {
		conn, err := listener.Accept() // Go sets TCP_NODELAY
		if err != nil {
			fail(err.Error())
		}
		go echoAll(conn)
	}
}

func echoAll(conn net.Conn) {
	defer conn.Close()
	buffer := make([]byte, 4096)
	for {
		n, err := conn.Read(buffer)
		if err != nil {
			return
		}
		if _, err := conn.Write(buffer[:n]); err != nil {
			return
		}
	}
}

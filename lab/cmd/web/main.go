// Command web stands behind the Services that the lab probes: HTTP, an echo over
// UDP and DNS, each of which can be told to be slow or to go away.
package main

import (
	"fmt"
	"log"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// What port 8081, the one for commands, can change.
var delay atomic.Int64 // of DNS, in milliseconds

func main() {
	web, err := net.Listen("tcp", ":8080")
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		_ = http.Serve(web, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "hello") }))
	}()
	go serveUDP(":8080", func(b []byte) []byte { return b })
	go serveUDP(":53", answer)
	http.HandleFunc("/close", func(http.ResponseWriter, *http.Request) { web.Close() })
	http.HandleFunc("/delay", func(w http.ResponseWriter, r *http.Request) {
		ms, err := strconv.Atoi(r.FormValue("ms"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		delay.Store(int64(ms))
	})
	log.Fatal(http.ListenAndServe(":8081", nil))
}

func serveUDP(address string, answer func([]byte) []byte) {
	c, err := net.ListenPacket("udp", address)
	if err != nil {
		log.Fatal(err)
	}
	buffer := make([]byte, 2048)
	for {
		n, from, err := c.ReadFrom(buffer)
		if err != nil {
			log.Fatal(err)
		}
		question := append([]byte{}, buffer[:n]...)
		go func() {
			if b := answer(question); b != nil {
				_, _ = c.WriteTo(b, from)
			}
		}()
	}
}

// answer knows no name, slowly if it was told so.
func answer(question []byte) []byte {
	time.Sleep(time.Duration(delay.Load()) * time.Millisecond)
	var m dnsmessage.Message
	if m.Unpack(question) != nil {
		return nil
	}
	m.Response, m.RCode = true, dnsmessage.RCodeNameError
	b, err := m.Pack()
	if err != nil {
		return nil
	}
	return b
}

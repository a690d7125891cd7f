package prober

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sync/errgroup"
)

// Turn says whose turn it is to stand behind the canary Service.
type Turn struct {
	// Number grows from turn to turn; 0 is none.
	Number int64 `json:"turn"`
	// Current is the address whose turn it is.
	Current netip.Addr `json:"current"`
	// Seconds is for how long, at least: since somebody heard of it.
	Seconds float64 `json:"seconds"`
}

// Said is what a responder says: which node it is on, at which of its addresses
// it was reached, and whose turn it is as far as that node knows.
type Said struct {
	Node    string     `json:"node"`
	Address netip.Addr `json:"address"`
	Turn
}

// Responder answers anybody, over TCP (HTTP, any path) with what it is, over
// UDP with its node's name and what was sent.
type Responder struct {
	// Node is the name of its node.
	Node string
	// Knows is whose turn it is; nil if nobody can tell.
	Knows func() Turn
}

// Limits of a responder: it costs its node next to nothing, whoever asks.
const (
	maxResponses   = 256
	responseWithin = 5 * time.Second
	maxSaid        = 4 << 10
)

// Serve answers at address, "host:port" or ":port", until the context ends;
// listening is called once it does.
func (r *Responder) Serve(ctx context.Context, address string, listening func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var config net.ListenConfig
	tcp, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer tcp.Close()
	_, port, err := net.SplitHostPort(tcp.Addr().String())
	if err != nil {
		return err
	}
	sockets, err := listenUDP(ctx, address, port)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler: r, ReadTimeout: responseWithin, WriteTimeout: responseWithin, MaxHeaderBytes: maxSaid,
		ConnState: NewConnections(maxResponses).State,
	}
	server.SetKeepAlivesEnabled(false)
	var g errgroup.Group
	g.Go(func() error { defer cancel(); return server.Serve(tcp) })
	for _, s := range sockets {
		g.Go(func() error { defer cancel(); return r.serveUDP(s) })
	}
	listening()
	<-ctx.Done()
	_ = server.Close()
	for _, s := range sockets {
		_ = s.Close()
	}
	if err := g.Wait(); !errors.Is(err, net.ErrClosed) && !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// listenUDP opens a socket for each IP family that address names, with that port.
func listenUDP(ctx context.Context, address, port string) ([]net.PacketConn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	var out []net.PacketConn
	var failed error
	var config net.ListenConfig
	for _, network := range []string{"udp4", "udp6"} {
		conn, err := config.ListenPacket(ctx, network, net.JoinHostPort(host, port))
		switch {
		case err == nil:
			out = append(out, conn)
		case failed == nil || errors.Is(err, syscall.EADDRINUSE): // else it is of a family that address is not of, or that the node has not
			failed = err
		}
	}
	if len(out) == 0 || errors.Is(failed, syscall.EADDRINUSE) {
		for _, conn := range out {
			_ = conn.Close()
		}
		return nil, failed
	}
	return out, nil
}

// ServeHTTP implements http.Handler.
func (r *Responder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	said := Said{Node: r.Node}
	if a, ok := req.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr); ok {
		said.Address = a.AddrPort().Addr().Unmap()
	}
	if r.Knows != nil {
		said.Turn = r.Knows()
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(said) // whoever asked may have gone
}

// serveUDP answers from the address that was asked: a node has several, and who
// asked listens to that one alone.
func (r *Responder) serveUDP(conn net.PacketConn) error {
	read, write := overIPv6(conn)
	if a, ok := conn.LocalAddr().(*net.UDPAddr); ok && a.IP.To4() != nil {
		read, write = overIPv4(conn)
	}
	buffer := make([]byte, 1500)
	for {
		n, asked, from, err := read(buffer)
		if err != nil {
			return err
		}
		if answer := r.echo(buffer[:n]); answer != nil {
			_ = write(answer, asked, from) // whoever asked may have gone
		}
	}
}

// Reading and writing with one's own address.
type (
	readFrom = func(buffer []byte) (n int, own net.IP, from net.Addr, err error)
	writeTo  = func(answer []byte, own net.IP, to net.Addr) error
)

func overIPv4(conn net.PacketConn) (readFrom, writeTo) {
	c := ipv4.NewPacketConn(conn)
	_ = c.SetControlMessage(ipv4.FlagDst, true) // else the kernel chooses the address
	return func(buffer []byte) (int, net.IP, net.Addr, error) {
			n, m, from, err := c.ReadFrom(buffer)
			if m == nil {
				return n, nil, from, err
			}
			return n, m.Dst, from, err
		}, func(answer []byte, own net.IP, to net.Addr) error {
			_, err := c.WriteTo(answer, &ipv4.ControlMessage{Src: own}, to)
			return err
		}
}

func overIPv6(conn net.PacketConn) (readFrom, writeTo) {
	c := ipv6.NewPacketConn(conn)
	_ = c.SetControlMessage(ipv6.FlagDst, true) // else the kernel chooses the address
	return func(buffer []byte) (int, net.IP, net.Addr, error) {
			n, m, from, err := c.ReadFrom(buffer)
			if m == nil {
				return n, nil, from, err
			}
			return n, m.Dst, from, err
		}, func(answer []byte, own net.IP, to net.Addr) error {
			_, err := c.WriteTo(answer, &ipv6.ControlMessage{Src: own}, to)
			return err
		}
}

// echoMagic is how a question over UDP begins. An answer never does, so that two
// responders cannot be made to answer each other for ever.
const echoMagic = "kproxy "

// echo is the answer to a datagram: the node's name, and what was sent without
// as much of its end. It is never longer than the question, so that nobody gains
// by asking in another's name. Nil if there is no answer.
func (r *Responder) echo(question []byte) []byte {
	prefix := r.Node + ": "
	if !bytes.HasPrefix(question, []byte(echoMagic)) || len(prefix) > len(question) {
		return nil
	}
	return append([]byte(prefix), question[:len(question)-len(prefix)]...)
}

// AskResponder asks whoever answers at an address, over a new connection, within
// the context's deadline.
func AskResponder(ctx context.Context, at netip.AddrPort) (Said, error) {
	d := net.Dialer{KeepAlive: -1}
	conn, err := d.DialContext(ctx, "tcp", at.String())
	if err != nil {
		return Said{}, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := io.WriteString(conn, getRoot(at.String())); err != nil {
		return Said{}, err
	}
	res, err := http.ReadResponse(bufio.NewReaderSize(io.LimitReader(conn, maxSaid), 1024), nil)
	if err != nil {
		return Said{}, notAnswer(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return Said{}, notAnswer(err)
	}
	return ParseSaid(res.StatusCode, body)
}

// isNodeName is whether a text can be a node's name: it is shown to people.
func isNodeName(s string) bool {
	const most = 253
	return s != "" && len(s) <= most && !strings.ContainsFunc(s, func(r rune) bool { return r != '.' && r != '-' && (r < 'a' || r > 'z') && (r < '0' || r > '9') })
}

// ParseSaid reads what a responder says.
func ParseSaid(status int, body []byte) (Said, error) {
	var said Said
	if status != http.StatusOK {
		return said, fmt.Errorf("%w: status %d", errAnswer, status)
	}
	if err := json.Unmarshal(body, &said); err != nil {
		return Said{}, fmt.Errorf("%w: %w", errAnswer, err)
	}
	const week = 7 * 24 * 3600 // nobody's turn is that long
	if !isNodeName(said.Node) || !said.Address.IsValid() || said.Number < 0 || said.Seconds < 0 || said.Seconds > week || (said.Number > 0) != said.Current.IsValid() {
		return Said{}, fmt.Errorf("%w: it is no responder's", errAnswer)
	}
	return said, nil
}

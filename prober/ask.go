package prober

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// question is one attempt while it is made.
type question struct {
	module  Module
	address netip.AddrPort
	// name is asked for by the DNS modules, host by the HTTP modules.
	name, host string
	// bound is told of the socket's own address before it connects; nil if nobody
	// wants to know.
	bound func(own netip.AddrPort)

	out Attempt
}

// errAnswer is an answer that is none.
var errAnswer = errors.New("the answer is not one")

// ask makes a new connection and asks once, within the context's deadline.
// What became of it is in q.out.
func (q *question) ask(ctx context.Context) {
	began := time.Now()
	defer func() {
		q.out.Total = time.Since(began)
		if p := recover(); p != nil {
			q.out.Reason, q.out.Error = ReasonPanic, fmt.Sprint("panic: ", p)
		}
	}()
	if err := q.try(ctx); err != nil {
		q.out.Reason, q.out.Error = reasonOf(err), err.Error()
		return
	}
	q.out.Reason, q.out.Phase = ReasonOK, ""
}

// phase times a part, and notes it as the one that failed until the next begins.
func (q *question) phase(p Phase, do func() error) error {
	q.out.Phase = p
	began := time.Now()
	err := do()
	q.out.Took = append(q.out.Took, PhaseTime{p, time.Since(began)})
	return err
}

func (q *question) try(ctx context.Context) error {
	network := "tcp"
	if q.module.UDP() {
		network = "udp"
	}
	var conn net.Conn
	if err := q.phase(PhaseConnect, func() (err error) {
		d := net.Dialer{KeepAlive: -1, Control: q.note}
		conn, err = d.DialContext(ctx, network, q.address.String())
		return err
	}); err != nil {
		return err
	}
	defer conn.Close()
	if q.module == ModuleTCP {
		return nil
	}
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if q.module == ModuleHTTPS {
		secure := tls.Client(conn, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // whether it answers is asked, not who
		if err := q.phase(PhaseTLS, func() error { return secure.HandshakeContext(ctx) }); err != nil {
			return err
		}
		conn = secure
	}
	return q.phase(PhaseAnswer, func() error {
		switch q.module {
		case ModuleHTTP, ModuleHTTPS:
			return askHTTP(conn, q.host)
		case ModuleDNS, ModuleDNSTCP:
			return askDNS(ctx, conn, q.name, q.module.UDP())
		default:
			return askEcho(ctx, conn)
		}
	})
}

// note binds the socket before it connects, so that its own port is known even
// if nobody ever answers.
func (q *question) note(_, _ string, c syscall.RawConn) error {
	if q.bound == nil {
		return nil
	}
	var err error
	if controlled := c.Control(func(fd uintptr) {
		var any syscall.Sockaddr = &syscall.SockaddrInet4{}
		if q.address.Addr().Is6() {
			any = &syscall.SockaddrInet6{}
		}
		if err = syscall.Bind(int(fd), any); err != nil {
			return
		}
		var own syscall.Sockaddr
		if own, err = syscall.Getsockname(int(fd)); err != nil {
			return
		}
		switch a := own.(type) {
		case *syscall.SockaddrInet4:
			q.bound(netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port)))
		case *syscall.SockaddrInet6:
			q.bound(netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port)))
		}
	}); controlled != nil {
		return controlled
	}
	return err
}

// getRoot is the request for what is at the root of a host.
func getRoot(host string) string {
	return "GET / HTTP/1.1\r\nHost: " + host + "\r\nUser-Agent: kproxy-exporter\r\nConnection: close\r\n\r\n"
}

func askHTTP(conn net.Conn, host string) error {
	if _, err := io.WriteString(conn, getRoot(host)); err != nil {
		return err
	}
	res, err := http.ReadResponse(bufio.NewReaderSize(io.LimitReader(conn, headerLimit), 1024), nil)
	if err != nil {
		return notAnswer(err)
	}
	res.Body.Close()
	if res.StatusCode >= http.StatusInternalServerError {
		return fmt.Errorf("%w: %s", errAnswer, res.Status)
	}
	return nil
}

// notAnswer tells what was said wrongly from what was not said at all.
func notAnswer(err error) error {
	var remote net.Error
	if errors.As(err, &remote) || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	return fmt.Errorf("%w: %w", errAnswer, err)
}

// askDNS asks for a name's addresses. Over UDP it asks again after a while:
// packets may be lost.
func askDNS(ctx context.Context, conn net.Conn, name string, udp bool) error {
	parsed, err := dnsmessage.NewName(name)
	if err != nil {
		return fmt.Errorf("name %q: %w", name, err)
	}
	var id [2]byte
	if _, err := rand.Read(id[:]); err != nil {
		return err
	}
	b := dnsmessage.NewBuilder(make([]byte, 2, 512), dnsmessage.Header{ID: uint16(id[0])<<8 | uint16(id[1]), RecursionDesired: true})
	b.EnableCompression()
	if err := b.StartQuestions(); err != nil {
		return err
	}
	if err := b.Question(dnsmessage.Question{Name: parsed, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}); err != nil {
		return err
	}
	message, err := b.Finish()
	if err != nil {
		return err
	}
	answer := make([]byte, 4096)
	if udp {
		return exchange(ctx, conn, message[2:], answer, func(got []byte) error { return checkDNS(got, id) })
	}
	message[0], message[1] = byte((len(message)-2)>>8), byte(len(message)-2)
	if _, err := conn.Write(message); err != nil {
		return err
	}
	if _, err := io.ReadFull(conn, answer[:2]); err != nil {
		return notAnswer(err)
	}
	n := int(answer[0])<<8 | int(answer[1])
	answer = answer[:min(n, len(answer))]
	if _, err := io.ReadFull(conn, answer); err != nil {
		return notAnswer(err)
	}
	return checkDNS(answer, id)
}

// errOther is an answer to another question: the right one may come yet.
var errOther = errors.New("an answer to another question")

func checkDNS(answer []byte, id [2]byte) error {
	var p dnsmessage.Parser
	h, err := p.Start(answer)
	if err != nil {
		return fmt.Errorf("%w: %w", errAnswer, err)
	}
	if h.ID != uint16(id[0])<<8|uint16(id[1]) || !h.Response {
		return errOther
	}
	if h.RCode != dnsmessage.RCodeSuccess && h.RCode != dnsmessage.RCodeNameError {
		return fmt.Errorf("%w: %s", errAnswer, h.RCode)
	}
	return nil
}

// askEcho sends what nobody can guess and wants it back, with room for a node's
// name before it: a responder says no more than it was told.
func askEcho(ctx context.Context, conn net.Conn) error {
	var nonce [16]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		return err
	}
	const nameRoom = 260
	text := echoMagic + hex.EncodeToString(nonce[:])
	return exchange(ctx, conn, []byte(text+strings.Repeat(".", nameRoom)), make([]byte, 1500), func(got []byte) error {
		if !strings.Contains(string(got), text) {
			return errOther
		}
		return nil
	})
}

// exchange sends a datagram, again when half of the time is over, and reads
// until check is content.
func exchange(ctx context.Context, conn net.Conn, message, answer []byte, check func([]byte) error) error {
	deadline, ok := ctx.Deadline()
	if !ok {
		return errors.New("a question over UDP needs a deadline")
	}
	for _, until := range []time.Time{time.Now().Add(time.Until(deadline) / 2), deadline} {
		if _, err := conn.Write(message); err != nil {
			return err
		}
		if err := conn.SetReadDeadline(until); err != nil {
			return err
		}
		for {
			n, err := conn.Read(answer)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return err
			}
			if err := check(answer[:n]); !errors.Is(err, errOther) {
				return err
			}
		}
	}
	return os.ErrDeadlineExceeded
}

func reasonOf(err error) Reason {
	var timeout net.Error
	var alert tls.AlertError
	var header tls.RecordHeaderError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return ReasonRefused
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return ReasonReset
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return ReasonUnreachable
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.EADDRINUSE),
		errors.Is(err, syscall.ENOBUFS), errors.Is(err, syscall.ENOMEM), errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EACCES):
		return ReasonLocal
	case errors.Is(err, errAnswer):
		return ReasonBadAnswer
	case errors.As(err, &alert), errors.As(err, &header):
		return ReasonTLS
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return ReasonTimeout
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return ReasonReset
	}
	return ReasonBadAnswer
}

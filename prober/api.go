package prober

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"
)

// APITarget is an address under which an API server should answer, and as whom
// it is asked.
type APITarget struct {
	// Name says which address it is: "vip", "kubeconfig", or the address itself.
	Name string
	// Host is a name or an address, Port a number.
	Host, Port string
	// ServerName is checked against the certificate instead of Host, if set.
	ServerName string
	// Roots are trusted; the system's if nil.
	Roots *x509.CertPool
	// Certificates and Token are the credentials: none, or one of the two. They
	// never leave this package.
	Certificates []tls.Certificate
	Token        string
	// Path is asked for. An answer of any status is one, but 401 and 403.
	Path string
}

// Phase is a part of an attempt: a closed set, in order.
type Phase string

// The phases.
const (
	PhaseDNS     Phase = "dns"
	PhaseConnect Phase = "connect"
	PhaseTLS     Phase = "tls"
	PhaseAnswer  Phase = "answer" // until the first line of the answer
)

// APIClass is what became of an attempt: a closed set.
type APIClass string

// The classes. Those of failure have the names of the details of the cause
// api_unreachable.
const (
	APIOK            APIClass = "ok"
	APIRefused       APIClass = "refused"
	APITimeout       APIClass = "timeout"
	APIDNS           APIClass = "dns"
	APITLS           APIClass = "tls"
	APICertExpired   APIClass = "cert_expired"
	APIUnauthorized  APIClass = "unauthorized"
	APIForbidden     APIClass = "forbidden"
	APIWrongEndpoint APIClass = "wrong_endpoint" // somebody answers, and is no API server
	APIFailed        APIClass = "failed"         // anything else: reset, unwell
	APICancelled     APIClass = "cancelled"      // we stopped, which says nothing
)

// APIResult is what became of an attempt.
type APIResult struct {
	Class APIClass
	// Phase is the one that failed; empty if none did.
	Phase Phase
	// Took is how long each phase took that was begun.
	Took map[Phase]time.Duration
	// Error is the error's text, without credentials.
	Error string
	// NotAfter is the earliest end of a certificate of the chain that the server
	// showed; zero if it showed none.
	NotAfter time.Time
}

// AskAPI makes a new connection and asks once, phase by phase, within timeout.
func AskAPI(ctx context.Context, t APITarget, timeout time.Duration) APIResult {
	outer := ctx
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	r := APIResult{Class: APIOK, Took: map[Phase]time.Duration{}}
	fail := func(phase Phase, class APIClass, err error) APIResult {
		if outer.Err() != nil {
			class = APICancelled
		}
		r.Class, r.Phase, r.Error = class, phase, err.Error()
		return r
	}
	phase := func(p Phase, do func() error) error {
		began := time.Now()
		err := do()
		r.Took[p] = time.Since(began)
		return err
	}

	addresses := []string{t.Host}
	if net.ParseIP(t.Host) == nil {
		if err := phase(PhaseDNS, func() (err error) {
			addresses, err = net.DefaultResolver.LookupHost(ctx, t.Host)
			return err
		}); err != nil {
			return fail(PhaseDNS, APIDNS, err)
		}
	}
	var conn net.Conn
	if err := phase(PhaseConnect, func() (err error) {
		conn, err = dialFirst(ctx, addresses, t.Port)
		return err
	}); err != nil {
		return fail(PhaseConnect, connectClass(err), err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()

	secure := tls.Client(conn, t.tlsConfig(&r))
	if err := phase(PhaseTLS, func() error { return secure.HandshakeContext(ctx) }); err != nil {
		return fail(PhaseTLS, tlsClass(ctx, err), err)
	}
	var status int
	var own bool
	if err := phase(PhaseAnswer, func() (err error) {
		status, own, err = t.ask(secure)
		return err
	}); err != nil {
		return fail(PhaseAnswer, answerClass(ctx, err), err)
	}
	switch {
	case status == http.StatusUnauthorized:
		return fail(PhaseAnswer, APIUnauthorized, fmt.Errorf("GET %s: 401 Unauthorized", t.Path))
	case status == http.StatusForbidden:
		return fail(PhaseAnswer, APIForbidden, fmt.Errorf("GET %s: 403 Forbidden", t.Path))
	case status == http.StatusNotFound && own: // it knows no such Node, and says so
	case status == http.StatusNotFound, status >= 300 && status < 400:
		return fail(PhaseAnswer, APIWrongEndpoint, fmt.Errorf("GET %s: %d: it is no API server", t.Path, status))
	case status >= http.StatusInternalServerError:
		return fail(PhaseAnswer, APIFailed, fmt.Errorf("GET %s: %d", t.Path, status))
	}
	return r
}

// dialFirst connects to the first address that answers.
func dialFirst(ctx context.Context, addresses []string, port string) (net.Conn, error) {
	var all []error
	for i, a := range addresses {
		// Each has its share of the time, so that a dead one does not take it all.
		limit := ctx
		if deadline, ok := ctx.Deadline(); ok && i < len(addresses)-1 {
			var cancel context.CancelFunc
			limit, cancel = context.WithTimeout(ctx, time.Until(deadline)/time.Duration(len(addresses)-i))
			defer cancel()
		}
		conn, err := (&net.Dialer{}).DialContext(limit, "tcp", net.JoinHostPort(a, port))
		if err == nil {
			return conn, nil
		}
		all = append(all, err)
	}
	return nil, errors.Join(all...)
}

func (t APITarget) tlsConfig(r *APIResult) *tls.Config {
	name := t.ServerName
	if name == "" {
		name = t.Host
	}
	return &tls.Config{
		ServerName: name, RootCAs: t.Roots, Certificates: t.Certificates, MinVersion: tls.VersionTLS12,
		// The chain is checked below, after its dates have been noted.
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection checks it
		VerifyConnection: func(s tls.ConnectionState) error {
			intermediates := x509.NewCertPool()
			for i, c := range s.PeerCertificates {
				if r.NotAfter.IsZero() || c.NotAfter.Before(r.NotAfter) {
					r.NotAfter = c.NotAfter
				}
				if i > 0 {
					intermediates.AddCert(c)
				}
			}
			if len(s.PeerCertificates) == 0 {
				return errors.New("tls: the server showed no certificate")
			}
			_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: t.Roots, DNSName: name, Intermediates: intermediates})
			return err
		},
	}
}

// ask sends the request and reads the answer's head; own is whether it is one of
// the API's own kind, of an answer that says that something is not there.
func (t APITarget) ask(conn net.Conn) (status int, own bool, err error) {
	head := "GET " + t.Path + " HTTP/1.1\r\nHost: " + net.JoinHostPort(t.Host, t.Port) + "\r\nUser-Agent: kproxy-exporter\r\nAccept: application/json\r\nConnection: close\r\n"
	if t.Token != "" {
		if strings.ContainsAny(t.Token, "\r\n") {
			return 0, false, errors.New("the token holds a line break")
		}
		head += "Authorization: Bearer " + t.Token + "\r\n"
	}
	if _, err := io.WriteString(conn, head+"\r\n"); err != nil {
		return 0, false, err
	}
	res, err := http.ReadResponse(bufio.NewReaderSize(io.LimitReader(conn, headerLimit), 1024), nil)
	if err != nil {
		return 0, false, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusNotFound {
		return res.StatusCode, false, nil
	}
	var answer struct{ Kind string }
	err = json.NewDecoder(res.Body).Decode(&answer) // bounded as the head is
	return res.StatusCode, err == nil && answer.Kind == "Status", nil
}

func connectClass(err error) APIClass {
	var timeout net.Error
	switch {
	// Of several addresses one that says no tells more than one that is silent.
	case errors.Is(err, syscall.ECONNREFUSED):
		return APIRefused
	case errors.As(err, &timeout) && timeout.Timeout(),
		errors.Is(err, context.DeadlineExceeded), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return APITimeout
	}
	return APIFailed
}

func tlsClass(ctx context.Context, err error) APIClass {
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	var hostname x509.HostnameError
	var header tls.RecordHeaderError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return APICertExpired
	case errors.As(err, &invalid), errors.As(err, &unknown), errors.As(err, &hostname):
		return APITLS
	case errors.As(err, &header):
		return APIWrongEndpoint
	}
	return answerClass(ctx, err)
}

func answerClass(ctx context.Context, err error) APIClass {
	var timeout net.Error
	var remote *net.OpError
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return APITimeout
	// With TLS 1.3 a client's certificate is refused only in the answer.
	case errors.As(err, &remote) && remote.Op == "remote error":
		return alertClass(remote.Err.Error())
	}
	return APIFailed
}

// alertClass is what a server says that ends the connection by an alert
// (crypto/tls has names for them and no type).
func alertClass(alert string) APIClass {
	switch {
	case strings.Contains(alert, "expired certificate"):
		return APICertExpired
	case strings.Contains(alert, "certificate"):
		return APIUnauthorized
	}
	return APITLS
}

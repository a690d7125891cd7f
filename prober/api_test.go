package prober

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// authority is a CA that lasts as long as a test.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, pool: x509.NewCertPool()}
	a.key = newKey(t)
	a.cert = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pool.AddCert(a.cert)
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (a *authority) issue(notAfter time.Time) tls.Certificate {
	a.t.Helper()
	key := newKey(a.t)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "leaf"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: notAfter.Add(-time.Hour), NotAfter: notAfter, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// api is an API server with a serving certificate.
func api(t *testing.T, cert tls.Certificate, clients *x509.CertPool, handler http.HandlerFunc) APITarget {
	t.Helper()
	s := httptest.NewUnstartedServer(handler)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	if clients != nil {
		s.TLS.ClientAuth, s.TLS.ClientCAs = tls.RequireAndVerifyClientCert, clients
	}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	host, port, err := net.SplitHostPort(s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return APITarget{Host: host, Port: port, Path: "/livez"}
}

func target(at netip.AddrPort) APITarget {
	host, port, _ := net.SplitHostPort(at.String())
	return APITarget{Host: host, Port: port, Path: "/livez"}
}

func TestAskAPI(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	soon := time.Now().Add(30 * time.Minute)
	good := ca.issue(soon)
	status := func(code int) APITarget {
		a := api(t, good, nil, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) })
		a.Roots = ca.pool
		return a
	}
	with := func(a APITarget, change func(*APITarget)) APITarget {
		a.Roots = ca.pool
		change(&a)
		return a
	}
	asked := func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret" || r.URL.Path != "/livez" {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}
	mutual := api(t, good, ca.pool, func(http.ResponseWriter, *http.Request) {})
	nothing := func(*APITarget) {}
	for _, tc := range []struct {
		name  string
		at    APITarget
		class APIClass
		phase Phase
	}{
		{"answers", status(200), APIOK, ""},
		{"answers as whom", with(api(t, good, nil, asked), func(a *APITarget) { a.Token = "secret" }), APIOK, ""},
		{"a wrong token", with(api(t, good, nil, asked), func(a *APITarget) { a.Token = "wrong" }), APIUnauthorized, PhaseAnswer},
		{"a token that would be two headers", with(api(t, good, nil, asked), func(a *APITarget) { a.Token = "secret\r\nX: y" }), APIFailed, PhaseAnswer},
		{"by certificate", with(mutual, func(a *APITarget) { a.Certificates = []tls.Certificate{ca.issue(soon)} }), APIOK, ""},
		{"by another's certificate", with(mutual, func(a *APITarget) { a.Certificates = []tls.Certificate{other.issue(soon)} }), APIUnauthorized, PhaseAnswer},
		{"by an expired certificate", with(mutual, func(a *APITarget) { a.Certificates = []tls.Certificate{ca.issue(time.Now().Add(-time.Minute))} }), APICertExpired, PhaseAnswer},
		{"forbidden", status(403), APIForbidden, PhaseAnswer},
		{"unwell", status(500), APIFailed, PhaseAnswer},
		{"it knows no such Node, and says so", with(api(t, good, nil, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"kind":"Status","apiVersion":"v1","reason":"NotFound"}`)
		}), nothing), APIOK, ""},
		{"no API server", status(404), APIWrongEndpoint, PhaseAnswer},
		{"no API server, elsewhere", status(302), APIWrongEndpoint, PhaseAnswer},
		{"another authority", with(status(200), func(a *APITarget) { a.Roots = other.pool }), APITLS, PhaseTLS},
		{"another name", with(status(200), func(a *APITarget) { a.ServerName = "kubernetes" }), APITLS, PhaseTLS},
		{"expired", with(api(t, ca.issue(time.Now().Add(-time.Minute)), nil, nil), nothing), APICertExpired, PhaseTLS},
		{"no TLS", with(target(say(t, "SSH-2.0-x\r\n")), nothing), APIWrongEndpoint, PhaseTLS},
		{"closed in the handshake", with(target(say(t, "")), nothing), APIFailed, PhaseTLS},
		{"silent in the handshake", with(target(deaf(t)), nothing), APITimeout, PhaseTLS},
		{"silent after it", with(api(t, good, nil, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }), nothing), APITimeout, PhaseAnswer},
		{"refused", with(target(closed(t)), nothing), APIRefused, PhaseConnect},
		{"no such name", APITarget{Host: "no-such-name.invalid", Port: "1", Path: "/"}, APIDNS, PhaseDNS},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := AskAPI(t.Context(), tc.at, 500*time.Millisecond)
			if r.Class != tc.class || r.Phase != tc.phase || (r.Error == "") != (tc.class == APIOK) {
				t.Errorf("got %s in %q: %s", r.Class, r.Phase, r.Error)
			}
			if strings.Contains(r.Error, "secret") {
				t.Errorf("the error tells the token: %s", r.Error)
			}
			if _, begun := r.Took[r.Phase]; r.Phase != "" && !begun {
				t.Errorf("the phase that failed took no time: %v", r.Took)
			}
			if r.Class == APIOK && (len(r.Took) != 3 || r.NotAfter.Unix() != soon.Unix()) {
				t.Errorf("phases %v, certificate until %s", r.Took, r.NotAfter)
			}
		})
	}
	t.Run("stopped", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(10*time.Millisecond, cancel)
		if r := AskAPI(ctx, with(target(deaf(t)), nothing), time.Minute); r.Class != APICancelled {
			t.Errorf("got %s: %s", r.Class, r.Error)
		}
	})
}

// A name that stands for several addresses answers if one of them does.
func TestDialFirst(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	conn, err := dialFirst(t.Context(), []string{"127.0.0.1", "127.0.0.2"}, port)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	_, err = dialFirst(t.Context(), []string{"127.0.0.1", "127.0.0.3"}, port)
	if got := connectClass(err); got != APIRefused {
		t.Errorf("got %s: %v", got, err)
	}
	if got := connectClass(errors.Join(context.DeadlineExceeded, &net.OpError{Err: errors.New("x")})); got != APITimeout {
		t.Errorf("got %s", got)
	}
}

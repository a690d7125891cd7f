package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// authority signs certificates.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// issue makes a certificate and its key, signed by a, or by itself if a is nil.
func (a *authority) issue(t *testing.T, name string, serial int64) (made *authority, certPEM, keyPEM []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IsCA: a == nil, BasicConstraintsValid: true,
	}
	parent, signer := c, key
	if a != nil {
		parent, signer = a.certificate, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{c, key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
}

func write(t *testing.T, dir string, files map[string][]byte) {
	t.Helper()
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// lines is a buffer for many.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

const password = "a password that nobody may see"

// TestWebTLS is of TLS, client certificates and users, while certificates are replaced
// and users change; nothing secret comes out.
func TestWebTLS(t *testing.T) {
	dir := t.TempDir()
	var nobody *authority
	ca, caPEM, _ := nobody.issue(t, "authority", 1)
	_, cert, key := ca.issue(t, "server", 2)
	_, clientCert, clientKey := ca.issue(t, "prometheus", 3)
	other, _, _ := nobody.issue(t, "somebody else's authority", 4)
	_, wrongCert, wrongKey := other.issue(t, "stranger", 5)
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	users := func(name string) []byte {
		return []byte("tls_server_config: {cert_file: tls.crt, key_file: tls.key, client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.crt}\nbasic_auth_users: {" + name + ": '" + string(hash) + "'}\n")
	}
	write(t, dir, map[string][]byte{"tls.crt": cert, "tls.key": key, "ca.crt": caPEM, "web.yml": users("prometheus")})
	cfg := testConfig(kubeconfig(t, fakeAPI(t).URL), "127.0.0.1:0")
	file := filepath.Join(dir, "web.yml")
	cfg.web.WebConfigFile = &file
	var log lines
	i := startWith(t, cfg, &log)
	url := strings.Replace(i.url, "http://", "https://", 1)
	roots := x509.NewCertPool()
	roots.AddCert(ca.certificate)
	get := func(cert, key []byte, user, word, path string) (status int, serial int64, body string, err error) {
		config := &tls.Config{RootCAs: roots}
		if cert != nil {
			pair, err := tls.X509KeyPair(cert, key)
			if err != nil {
				t.Fatal(err)
			}
			config.Certificates = []tls.Certificate{pair}
		}
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}, Timeout: 10 * time.Second}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if user != "" {
			req.SetBasicAuth(user, word)
		}
		res, err := client.Do(req)
		if err != nil {
			return 0, 0, "", err
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		return res.StatusCode, res.TLS.PeerCertificates[0].SerialNumber.Int64(), string(b), err
	}
	want := func(what string, cert, key []byte, user, word string, status int) {
		t.Helper()
		if got, _, _, err := get(cert, key, user, word, "/metrics"); got != status || (status == 0) != (err != nil) {
			t.Errorf("%s: %d %v, want %d", what, got, err, status)
		}
	}
	want("no client certificate", nil, nil, "prometheus", password, 0)
	want("another authority's", wrongCert, wrongKey, "prometheus", password, 0)
	want("no user", clientCert, clientKey, "", "", http.StatusUnauthorized)
	want("a wrong password", clientCert, clientKey, "prometheus", "guess", http.StatusUnauthorized)
	want("all right", clientCert, clientKey, "prometheus", password, http.StatusOK)
	if res, err := http.Get(i.url + "/metrics"); err == nil {
		res.Body.Close()
		if res.StatusCode != http.StatusBadRequest {
			t.Errorf("without TLS it answers %d", res.StatusCode)
		}
	}

	_, cert, key = ca.issue(t, "server", 77)
	write(t, dir, map[string][]byte{"tls.crt": cert, "tls.key": key, "web.yml": users("another")})
	if status, serial, _, err := get(clientCert, clientKey, "another", password, "/metrics"); status != http.StatusOK || serial != 77 {
		t.Errorf("after the certificate and the user were replaced: %d, certificate %d, %v", status, serial, err)
	}
	want("the user that went", clientCert, clientKey, "prometheus", password, http.StatusUnauthorized)
	write(t, dir, map[string][]byte{"tls.crt": []byte("half a certif")})
	want("while a certificate is half written", clientCert, clientKey, "another", password, 0)
	write(t, dir, map[string][]byte{"tls.crt": cert})
	want("and when it is whole", clientCert, clientKey, "another", password, http.StatusOK)

	for _, path := range []string{"/", "/metrics", "/causes", "/causes?format=json", "/debug/pprof/cmdline"} {
		_, _, body, err := get(clientCert, clientKey, "another", password, path)
		for _, secret := range []string{password, string(hash), "PRIVATE KEY", file} {
			if err != nil || strings.Contains(body, secret) {
				t.Errorf("%s: %v, holds %q: %t", path, err, secret, strings.Contains(body, secret))
			}
		}
	}
	i.stop()
	if err := <-i.done; err != nil {
		t.Error(err)
	}
	for _, secret := range []string{password, string(hash), "PRIVATE KEY"} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log holds %q", secret)
		}
	}
}

// TestWebConfigErrors is of a web configuration that cannot be: it does not start open.
func TestWebConfigErrors(t *testing.T) {
	for name, text := range map[string]string{
		"no file":        "",
		"no YAML":        "a: [",
		"an unknown key": "tls_servers: {}\n",
		"no certificate": "tls_server_config: {cert_file: gone.crt, key_file: gone.key}\n",
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "web.yml")
			if text != "" {
				write(t, filepath.Dir(file), map[string][]byte{"web.yml": []byte(text)})
			}
			cfg := testConfig(kubeconfig(t, "http://127.0.0.1:1"), "127.0.0.1:0")
			cfg.web.WebConfigFile = &file
			if err := run(t.Context(), cfg, newLogs(io.Discard, "error", "logfmt"), newClusterRole); err == nil || !strings.HasPrefix(err.Error(), "serve: ") {
				t.Errorf("it ends with %v", err)
			}
		})
	}
}

// TestServerLog is that what the web server says goes into our log, in its format, and
// that clients cannot fill it.
func TestServerLog(t *testing.T) {
	for level, want := range map[string]int{"error": 0, "info": 1, "debug": 3} {
		var b bytes.Buffer
		l := newLogs(&b, level, "json").server()
		l.Print("http: TLS handshake error from 127.0.0.1:1: EOF")
		l.Print("http: panic serving 127.0.0.1:1: oh\ngoroutine 1")
		l.Print("http2: server: error reading preface from client 127.0.0.1:1: EOF")
		lines := strings.Count(b.String(), "\n")
		if lines != want || strings.Contains(b.String(), "panic") != (want > 0) {
			t.Errorf("level %s: %d lines, want %d: %s", level, lines, want, b.String())
		}
		for line := range strings.Lines(b.String()) {
			var is struct{ Level, Err string }
			if err := json.Unmarshal([]byte(line), &is); err != nil || is.Err == "" || is.Level == "" {
				t.Errorf("level %s: %v: %s", level, err, line)
			}
		}
	}
	cfg := testConfig(kubeconfig(t, "http://127.0.0.1:1"), "127.0.0.1:0")
	_, cert, key := (*authority)(nil).issue(t, "server", 1)
	dir := t.TempDir()
	file := filepath.Join(dir, "web.yml")
	write(t, dir, map[string][]byte{"tls.crt": cert, "tls.key": key, "web.yml": []byte("tls_server_config: {cert_file: tls.crt, key_file: tls.key}\n")})
	cfg.web.WebConfigFile, cfg.logLevel = &file, "debug"
	var log lockedBuffer
	i := startWith(t, cfg, &log)
	address := strings.TrimPrefix(i.url, "http://")
	// The test server's certificate is not checked: only the protocol matters.
	client := &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	res, err := client.Get("https://" + address + "/-/healthy")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	client.CloseIdleConnections()
	if res.ProtoMajor != 1 {
		t.Errorf("a client that can speaks HTTP/%d: many requests on one connection", res.ProtoMajor)
	}
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	for began := time.Now(); !strings.Contains(log.String(), `err="http: TLS handshake error`); time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > time.Minute {
			t.Fatalf("no word of a handshake that was broken off: %s", log.String())
		}
	}
	i.stop()
	if err := <-i.done; err != nil {
		t.Error(err)
	}
}

// TestProfilesByFlag is that Go's profiles are there on demand only.
func TestProfilesByFlag(t *testing.T) {
	for _, on := range []bool{false, true} {
		cfg := testConfig(kubeconfig(t, "http://127.0.0.1:1"), "127.0.0.1:0")
		cfg.profiles = on
		i := startWith(t, cfg, io.Discard)
		if status, _ := i.get(t, "/debug/pprof/heap"); (status == http.StatusOK) != on {
			t.Errorf("with the flag %t a profile answers %d", on, status)
		}
		if _, page := i.get(t, "/"); strings.Contains(page, "debug/pprof") != on {
			t.Errorf("with the flag %t the landing page is %s", on, page)
		}
		i.stop()
		if err := <-i.done; err != nil {
			t.Error(err)
		}
	}
}

// TestHostileClients is of many that come and say nothing, or never all that they want,
// or send too much: who really asks gets an answer, and none stays for ever.
func TestHostileClients(t *testing.T) {
	i := startInstance(t, kubeconfig(t, fakeAPI(t).URL))
	i.awaitReady(t)
	address := strings.TrimPrefix(i.url, "http://")
	for name, says := range map[string]string{"nothing": "", "half a request": "GET /metrics HT", "a request without its body": "GET /-/healthy HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"} {
		var all []net.Conn
		for range 3 * mostConnections {
			c, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, c)
			if _, err := io.WriteString(c, says); err != nil && says == "" {
				t.Fatal(err)
			}
		}
		began := time.Now()
		for {
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Second}
			res, err := client.Get(i.url + "/metrics")
			if err == nil {
				b, err2 := io.ReadAll(res.Body)
				res.Body.Close()
				if err2 == nil && res.StatusCode == http.StatusOK && strings.Contains(string(b), "kproxy_primary_cause") {
					break
				}
			}
			if time.Since(began) > 2*headerTimeout {
				t.Fatalf("%d clients that say %s: no answer for %s, %v", len(all), name, time.Since(began), err)
			}
		}
		t.Logf("%d clients that say %s: an answer after %s", len(all), name, time.Since(began))
		var wg sync.WaitGroup
		for _, c := range all {
			wg.Go(func() {
				defer c.Close()
				if err := c.SetReadDeadline(time.Now().Add(2 * headerTimeout)); err != nil {
					t.Error(err)
				}
				if _, err := io.Copy(io.Discard, c); os.IsTimeout(err) {
					t.Errorf("who says %s may stay", name)
				}
			})
		}
		wg.Wait()
	}
	for _, tc := range []struct {
		method, path string
		header       int
		want         int
	}{
		{http.MethodPost, "/metrics", 0, http.StatusMethodNotAllowed}, {http.MethodDelete, "/causes", 0, http.StatusMethodNotAllowed},
		{http.MethodGet, "/metrics", 1 << 20, http.StatusRequestHeaderFieldsTooLarge}, {http.MethodGet, "/../../etc/passwd", 0, http.StatusNotFound},
		{http.MethodGet, "/causes?format=" + strings.Repeat("x", 1000), 0, http.StatusBadRequest},
	} {
		req, err := http.NewRequestWithContext(t.Context(), tc.method, i.url+tc.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Long", strings.Repeat("x", tc.header))
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != tc.want {
			t.Errorf("%s %s with %d bytes: %d, want %d", tc.method, tc.path[:min(len(tc.path), 30)], tc.header, res.StatusCode, tc.want)
		}
	}
	i.stop()
	if err := <-i.done; err != nil {
		t.Error(err)
	}
}
